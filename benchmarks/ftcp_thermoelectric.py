"""How well FTCP ranks power factors of held-out formulas, beside models that see the composition alone.

    python benchmarks/ftcp_thermoelectric.py CHECKPOINT --data SET
    python benchmarks/ftcp_thermoelectric.py CHECKPOINT --data SET --labelled-only CHECKPOINT2 --json FILE
    python benchmarks/ftcp_thermoelectric.py --units thermoelectric_prop.csv.gz mp20_part.csv.gz

SET is the crystal set (Parquet) both were trained on; CHECKPOINT learned the power factor as a sparse target beside all
rows, CHECKPOINT2 as a target of the labelled rows alone. Judged are the labelled rows that both held out, the same for
everybody; everybody else's training rows are the labelled rows that neither held out. The baselines see the mean and
spread of CGCNN's atom vectors over the composition, and the shares of the elements:

* ``forest``: 300 trees (scikit-learn, which matminer brings; left out where it is not installed);
* ``neighbours``: the mean of the five nearest compositions; ``ridge``: a linear model with a penalty of 10.

Spearman's coefficient has a bootstrap interval (2,000 resamples of formulas: polymorphs stay together), a difference of
two coefficients one of the same resamples. Enrichment: of the tenth predicted highest, the share that is of the true
tenth, over a tenth; its interval is Wilson's. All is repeated for the rows whose DFT gap is 0.3 to 1.5 eV, among which
the recipe looks.

``--units`` compares the labels with S^2 n e^2 / m of one parabolic band, in cubic crystals.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mattergpt import figure, share
from mattergpt_results import print_table
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.generators.ftcp.checkpoint import Checkpoint, read_checkpoint
from crysgen_aiida.representations.ftcp.atom_vectors import atom_vectors

FACTOR, GAP = "power_factor_over_tau", "band_gap"
RESAMPLES, TENTH = 2000, 0.1
WINDOW = (0.3, 1.5)  # eV
E, M_E = 1.602176634e-19, 9.1093837e-31  # C, kg

Floats = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


# -- who predicts what -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """What a checkpoint says of the rows of the data set: NaN where it does not know the row."""

    predicted: Floats
    held_out: np.ndarray[Any, np.dtype[np.bool_]]
    trained: np.ndarray[Any, np.dtype[np.bool_]]


def read(folder: Path, crystals: CrystalSet) -> Read:
    """Return the predictions of a model for its rows, means of the encoder read by the branch."""
    held: Checkpoint = read_checkpoint(folder)
    names = [label.name for label in held.labels]
    if FACTOR not in names:
        raise SystemExit(f"{folder} has not learned {FACTOR}; it knows {', '.join(names)}.")
    place, space = names.index(FACTOR), held.space
    found = Read(np.full(len(crystals), np.nan), *(np.zeros(len(crystals), dtype=bool) for _ in range(2)))
    known = crystals.values(FACTOR)[space.rows] if space.rows.max() < len(crystals) else None
    if known is None or not np.allclose(known, space.labels[:, place], equal_nan=True):
        raise SystemExit(f"{folder} was trained on another set: its labels are not those of --data.")
    found.predicted[space.rows] = space.predicted[:, place]
    found.held_out[space.rows] = space.held_out
    found.trained[space.rows] = ~space.held_out
    return found


def features(crystals: CrystalSet, rows: Rows) -> Floats:
    """Return mean and spread of the atom vectors over each composition, and the shares of the elements."""
    vectors, numbers = atom_vectors(), crystals.column("numbers")
    shares = np.zeros((len(rows), len(vectors)))
    for place, row in enumerate(rows.tolist()):
        np.add.at(shares[place], numbers[row], 1 / len(numbers[row]))
    mean = shares @ vectors
    spread = np.sqrt(np.maximum(shares @ vectors**2 - mean**2, 0))
    return np.hstack([mean, spread, shares])


def forest(x: Floats, y: Floats, wanted: Floats) -> Floats | None:
    """Return the predictions of a random forest, None without scikit-learn."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        print("  scikit-learn is not installed: no forest (pip install scikit-learn)")
        return None
    return np.asarray(RandomForestRegressor(300, max_features=0.33, random_state=1).fit(x, y).predict(wanted))


def neighbours(x: Floats, y: Floats, wanted: Floats) -> Floats:
    """Return the mean label of the five nearest compositions."""
    return np.asarray(y[cKDTree(x).query(wanted, k=5)[1]].mean(axis=1))


def ridge(x: Floats, y: Floats, wanted: Floats) -> Floats:
    """Return the predictions of a linear model with a squared penalty."""
    centre, middle = x.mean(axis=0), y.mean()
    weights = np.linalg.solve((x - centre).T @ (x - centre) + 10 * np.eye(x.shape[1]), (x - centre).T @ (y - middle))
    return np.asarray(middle + (wanted - centre) @ weights)


BASELINES: dict[str, Callable[[Floats, Floats, Floats], Floats | None]] = {
    "forest": forest, "neighbours": neighbours, "ridge": ridge
}  # fmt: skip


# -- how well ----------------------------------------------------------------------------------------------------------


def spearman(a: Floats, b: Floats) -> float:
    """Return Spearman's rank correlation; 0 where one side is constant."""
    ranks = rankdata(a), rankdata(b)
    return float(np.corrcoef(*ranks)[0, 1]) if min(r.std() for r in ranks) > 0 else 0.0


def resamples(formulas: list[str]) -> list[Rows]:
    """Return rows of resampled formulas."""
    _, group = np.unique(formulas, return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(1)
    return [np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))]) for _ in range(RESAMPLES)]


def ranked(truth: Floats, predicted: dict[str, Floats], formulas: list[str]) -> dict[str, Any]:
    """Return the coefficient, its difference to the first model's, and the enrichment of each model."""
    drawn = resamples(formulas)
    first, *_ = predicted
    table: dict[str, Any] = {}
    spread = {name: np.array([spearman(p[d], truth[d]) for d in drawn]) for name, p in predicted.items()}
    top = max(1, round(TENTH * len(truth)))
    best = set(np.argsort(-truth, kind="stable")[:top].tolist())
    for name, values in predicted.items():
        value = spearman(values, truth)
        table[f"{name}: Spearman"] = figure(value, "1", np.percentile(spread[name], (2.5, 97.5)))
        if name != first:
            gain = spearman(predicted[first], truth) - value
            interval = np.percentile(spread[first] - spread[name], (2.5, 97.5))
            table[f"{first} - {name}: Spearman"] = figure(gain, "1", interval)
        chosen = np.argsort(-values, kind="stable")[:top].tolist()
        hit = share(len(best & set(chosen)), top)
        over = [x / 100 / TENTH for x in (hit["value"], *hit["interval"])]
        counts = {"numerator": hit["numerator"], "denominator": top}
        table[f"{name}: enrichment of the top tenth"] = {**figure(over[0], "times", over[1:]), **counts}
    return table


def compare(crystals: CrystalSet, semi: Path, labelled: Path | None) -> dict[str, Any]:
    """Return the table of all models, for the rows held out by everybody."""
    models = {"semi-supervised": read(semi, crystals)}
    if labelled is not None:
        models["labelled only"] = read(labelled, crystals)
    labels, gaps = crystals.values(FACTOR), crystals.values(GAP)
    judged = np.isfinite(labels) & np.all([m.held_out for m in models.values()], axis=0)
    learned = np.isfinite(labels) & np.all([m.trained for m in models.values()], axis=0)
    rows, train = np.flatnonzero(judged), np.flatnonzero(learned)
    if len(rows) < 20:
        raise SystemExit(f"Only {len(rows)} labelled rows are held out by every model: too few to tell anything.")
    x, wanted = features(crystals, train), features(crystals, rows)
    predicted = {name: m.predicted[rows] for name, m in models.items()}
    for name, fit in BASELINES.items():
        if (values := fit(x, labels[train] / 1e13, wanted)) is not None:
            predicted[f"composition, {name}"] = values * 1e13
    formulas = np.array(crystals.column("reduced_formula"), dtype=object)[rows]
    table = {
        "labelled rows judged": figure(len(rows), "rows"),
        "formulas among them": figure(len(set(formulas)), "formulas"),
        "labelled rows learned from": figure(len(train), "rows"),
    }
    inside = (gaps[rows] >= WINDOW[0]) & (gaps[rows] <= WINDOW[1])
    for what, some in (("all", np.ones(len(rows), dtype=bool)), ("gap 0.3 to 1.5 eV", inside)):
        if some.sum() < 20:
            continue
        table[f"{what}, rows"] = figure(int(some.sum()), "rows")
        found = ranked(labels[rows][some], {n: v[some] for n, v in predicted.items()}, formulas[some].tolist())
        table |= {f"{what}, {title}": entry for title, entry in found.items()}
    return table


# -- what the labels are -----------------------------------------------------------------------------------------------


def units(table: Path, groups: Path) -> dict[str, Any]:
    """Return the labels over S^2 n e^2 / m in 1e8 W/m/K^2/s, n = 1e19 per cm^3, of the crystals of cubic groups."""
    csv.field_size_limit(1 << 30)
    with gzip.open(groups, "rt") as stream:
        cubic = {row["material_id"] for row in csv.DictReader(stream) if int(row["spacegroup.number"]) >= 195}
    found: dict[str, list[float]] = {"mi-eff P": [], "mi-eff N": []}
    with gzip.open(table, "rt") as stream:
        for row in csv.DictReader(stream):
            for mass, ratios in found.items():
                m, s, label = (float(row[name] or "nan") for name in (mass, "Seebeck", "Powerfactor"))
                if row["mp_id"] in cubic and m > 0 and np.isfinite([s, label]).all():
                    ratios.append(label * 1e8 / ((s * 1e-6) ** 2 * 1e25 * E**2 / (m * M_E)))
    figures: dict[str, Any] = {}
    for mass, ratios in found.items():
        low, middle, high = np.percentile(ratios, (25, 50, 75))
        figures[f"label over one band with {mass}, median of {len(ratios)} (quartiles)"] = figure(
            middle, "times", (low, high)
        )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", nargs="?")
    parser.add_argument("--data", type=Path, metavar="SET")
    parser.add_argument("--labelled-only", type=Path, metavar="CHECKPOINT2")
    parser.add_argument("--units", type=Path, nargs=2, metavar=("TABLE", "SPACEGROUPS"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.units is None and (asked.checkpoint is None or asked.data is None):
        parser.error("give CHECKPOINT and --data, or --units.")
    table = units(*asked.units) if asked.units else {}
    if asked.checkpoint is not None:
        table |= compare(CrystalSet.read(asked.data), asked.checkpoint, asked.labelled_only)
    print_table(table)
    if asked.json:
        write_text(asked.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
