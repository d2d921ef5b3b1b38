"""Distances to the hull of labelled crystals, each crystal's own entry left out: how well tables give the labels back.

    python benchmarks/hulls.py [--full] [--json FILE]

The reference is the union of the tables in ``CRYSGEN_TEST_DATA`` that share a scale of energies: those of whose
crystals also in ``mp20_hull_entries`` at least 95 % have the same formation energy within 1 meV/atom; the parts of
``mp_part``, by their origin, are tables of their own. An id counts once. Judged are labels above 5 meV/atom.
Chemical systems are told incomplete by the rule of ``crysgen_aiida.physics.hull.MIN_COVERAGE``, which sees no energy.
The stricter unions (99 % and 100 % the same) and that without twins show how much the choice of 95 % decides.
Quick: every eighth label; ``--full``: all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crysgen_aiida.physics.assessment import PASS_LABEL, PASS_WINDOW, Errors, assess_reference
from crysgen_aiida.physics.hull import Hull, formation_energy, fractions
from crysgen_aiida.physics.reference_tables import EnergyTable, table_reference
from crysgen_aiida.screening.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CRYSGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
ANCHOR, SAME, IN_COMMON = "mp20_hull_entries", 0.001, 20  # -, eV/atom, -
SHARES = (0.95, 0.99, 1.0)  # the first is the rule
BAR = 0.78
Figures = dict[str, dict[str, Any]]


def tables() -> dict[str, pd.DataFrame]:
    """Return all tables with the columns id, formula, energy and label [eV/atom]."""
    columns = ["id", "formula", "energy", "label"]
    near = pd.read_csv(DATA / "mp20_hull_entries.csv.gz")
    mp20 = pd.read_csv(DATA / "mp20_part.csv.gz")
    mpts = pd.read_csv(DATA / "mpts_52_val.csv.gz")
    mpts["formula"] = mpts["cif"].str.extract(r"data_(\S+)")[0].str.strip("'")
    many = pd.read_csv(DATA / "mp_part.csv.gz", usecols=lambda c: c != "structure")
    mp20_columns = ["material_id", "pretty_formula", "formation_energy_per_atom", "e_above_hull"]
    held = {
        ANCHOR: near[mp20_columns].set_axis(columns, axis=1),
        "mp20_part": mp20[mp20_columns].set_axis(columns, axis=1),
        "mpts_52_val": mpts[["material_id", "formula", "formation_energy_per_atom", "energy_above_hull"]].set_axis(
            columns, axis=1
        ),
    }
    for origin, part in many.groupby("origin"):
        kept = part[["material_id", "formula", "formation_energy_per_atom", "e_above_hull"]]
        held[f"mp_part: {Path(str(origin)).name}"] = kept.set_axis(columns, axis=1)
    return {name: table.dropna(subset=["energy", "formula"]) for name, table in held.items()}


def likeness(held: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Return which share of the crystals that a table has in common with the anchor has the same energy there."""
    shares = {}
    for name, table in held.items():
        both = table.merge(held[ANCHOR], on="id")
        same = int(((both["energy_x"] - both["energy_y"]).abs() <= SAME).sum())
        shares[name] = same / len(both) if len(both) >= IN_COMMON else 0.0
        print(f"  {name:<42} {len(table):>6} rows, {same} of {len(both)} the same energy ({100 * shares[name]:.1f} %)")
    return shares


def energy_table(frame: pd.DataFrame) -> EnergyTable:
    """Return a frame as a table of energies."""
    label = frame["label"].to_numpy(dtype=float)
    energy = frame["energy"].to_numpy(dtype=float)
    return EnergyTable(frame["formula"].tolist(), energy, frame["id"].tolist(), label)


def union_of(held: dict[str, pd.DataFrame], shares: dict[str, float], share: float = SHARES[0]) -> pd.DataFrame:
    """Return the entries of the tables of whose crystals at least a ``share`` have the energy of the anchor."""
    return pd.concat([held[name] for name, same in shares.items() if same >= share]).drop_duplicates("id")


class TestedHull:
    """The hull of the union, on the scale of the Materials Project of 2020; gives 81 % of MP-20 within 10 meV/atom."""

    def __init__(self) -> None:
        held = tables()
        union = union_of(held, likeness(held))
        elements = json.loads(gzip.decompress((DATA / "MP-PBE-Element-Refs.json.gz").read_bytes()))
        self.elements = {symbol: min(known["energy_per_atom"]) for symbol, known in elements.items()}
        zeros = [0.0] * len(self.elements)
        self.hull = Hull([*union["formula"], *self.elements], [*union["energy"], *zeros])

    def above(self, formula: str, energy: float, *, without_self: bool = False) -> float:
        """Return the distance of a total energy to the hull [eV/atom], NaN if an element is not known.

        :param energy: on the scale of 2020, as CHGNet gives it [eV/atom].
        :param without_self: leave out the entry of the same composition that is nearest.
        """
        formed = formation_energy(formula, energy, self.elements)
        if formed is None:
            return float("nan")
        hull = self.hull.at(formula, without=formed if without_self else None, tolerance=np.inf).energy
        return float("nan") if hull is None else formed - hull


def without_twins(union: pd.DataFrame) -> pd.DataFrame:
    """Return one entry of those with the same composition and, within 1 meV/atom, energy: twins under other ids."""
    key = [str(tuple((s, round(x, 6)) for s, x in fractions(f))) for f in union["formula"]]
    ordered = union.assign(key=key).sort_values(["key", "energy"])
    near = (ordered["key"] == ordered["key"].shift()) & (ordered["energy"].diff() < SAME)
    return ordered[~near].drop(columns="key")


def judged(union: pd.DataFrame, rows: pd.DataFrame, every: int, tolerance: float = 1e-6) -> Any:
    """Assess the union with labelled rows."""
    rows = rows[rows["label"] > PASS_LABEL].iloc[::every]
    reference = table_reference(energy_table(union), name="union", scheme="mp2020-compatible")
    table = energy_table(rows)
    return assess_reference(
        reference, table.formulas, table.energies.tolist(), table.labels.tolist(), tolerance=tolerance
    )


def figure(value: float, unit: str, bar: str = "-", met: bool | None = None, interval: Any = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": bar, "met": met}


def said(title: str, errors: Errors, bar: bool = False) -> Figures:
    """Return share, mean absolute error and bias."""
    if not errors.n or errors.mae is None or errors.bias is None:
        return {f"{title}: within 10 meV/atom": figure(float("nan"), "share of 0")}
    share = errors.within / errors.n
    interval = [round(x, 4) for x in wilson(errors.within, errors.n)]
    met = share >= BAR and errors.n >= 500 if bar else None
    stated = f">= {BAR} on >= 500" if bar else "-"
    return {
        f"{title}: within 10 meV/atom": figure(share, f"share of {errors.n}", stated, met, interval),
        f"{title}: too low by more": figure(errors.flattered / errors.n, f"share of {errors.n}"),
        f"{title}: mean absolute error": figure(1000 * errors.mae, "meV/atom"),
        f"{title}: bias": figure(1000 * errors.bias, "meV/atom"),
    }


def pooled(*parts: Errors) -> Errors:
    """Return the errors of all rows together."""
    held = [p for p in parts if p.mae is not None and p.bias is not None]
    n = sum(p.n for p in held)
    mae, bias = (sum(p.n * getattr(p, name) for p in held) / n for name in ("mae", "bias"))
    return Errors(n, sum(p.within for p in held), sum(p.flattered for p in held), mae, bias)


def releases(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """Return how well labels of two tables agree for the same crystals with the same energies."""
    both = one.merge(other, on="id")
    both = both[((both["energy_x"] - both["energy_y"]).abs() <= SAME) & (both["label_y"] > PASS_LABEL)]
    near = int(((both["label_x"] - both["label_y"]).abs() <= PASS_WINDOW).sum())
    interval = [round(x, 4) for x in wilson(near, len(both))]
    return figure(near / len(both), f"share of {len(both)}", interval=interval)


def measure(every: int) -> Figures:
    """Return all figures."""
    held = tables()
    shares = likeness(held)
    near, large = held["mp20_part"], held["mpts_52_val"]
    large = large[~large["id"].isin(near["id"])]
    figures: Figures = {}
    for share in SHARES:
        union = union_of(held, shares, share)
        print(f"  {100 * share:.0f} % the same: {len(union)} entries", flush=True)
        first, second = judged(union, near, every), judged(union, large, every)
        parts = [pooled(found.complete, found.incomplete) for found in (first, second)]
        title = f"union at {100 * share:.0f} %, "
        figures[f"{title}entries"] = figure(len(union), "entries")
        figures |= said(f"{title}labels of mp20_part", parts[0], bar=True)
        figures |= said(f"{title}labels of mpts_52_val", parts[1])
        figures |= said(f"{title}all these labels", pooled(*parts), bar=True)
        if share == SHARES[0]:
            for which in ("complete", "incomplete"):
                figures |= said(
                    f"{title}labels of mp20_part, {which} systems", getattr(first, which), which == "complete"
                )
                figures |= said(f"{title}labels of mpts_52_val, {which} systems", getattr(second, which))
            twins = judged(without_twins(union), near, every, tolerance=SAME)
            figures |= said(f"{title}twins left out, labels of mp20_part", pooled(twins.complete, twins.incomplete))
            late = judged(union, held[ANCHOR], every)
            figures |= said(f"{title}labels of {ANCHOR}", pooled(late.complete, late.incomplete))
    figures[f"labels of mp20_part and of {ANCHOR} within 10 meV/atom of each other"] = releases(near, held[ANCHOR])
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all labels")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    figures = measure(1 if options.full else 8)
    width = max(map(len, figures))
    for name, entry in figures.items():
        span = "" if entry["interval"] is None else "[{:.3f}, {:.3f}]".format(*entry["interval"])
        verdict = {True: "met", False: "NOT MET", None: ""}[entry["met"]]
        print(f"{name:<{width}} {entry['value']:>10.4g} {entry['unit']:<14} {span:<16} {entry['bar']:<18} {verdict}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
