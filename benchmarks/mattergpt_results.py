"""How good a trained MatterGPT is: validity, uniqueness, novelty, and whether crystals have what was asked for.

    python benchmarks/mattergpt_results.py CHECKPOINT --home DIR                  quick: 200 strings a setting
    python benchmarks/mattergpt_results.py CHECKPOINT --home DIR --full           1,000 strings a setting
    python benchmarks/mattergpt_results.py CHECKPOINT --home DIR --full --relax 1000 --json FILE

Every setting is kept in ``--home``: repeated, the command goes on where it was. Settings differ in one thing each:

* ``masked``, ``free``: with and without the grammar, at the default temperature 1 and top-p 0.95;
* ``masked paper``, ``free paper``: the same at the published temperature 1.2 and top-p 0.9;
* ``asked g``: formation energies of -1, -2 and -3 eV/atom asked for in turn, guidance g (0 drops the condition).

Two judges say what formation energy a string has. The *hull* judge takes the energy of the near-hull table at its
composition: DFT, independent of decoder and potential, and a lower bound for any crystal of that composition. The
*relaxed* judge decodes the string, relaxes the crystal with CHGNet and takes the elements of the starter reference.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mattergpt import figure, formula_of, grammatical, hull_energies, share, spearman
from scipy.stats import ks_2samp

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import ReferenceSet, SequenceSet
from crysgen_aiida.generators.mattergpt.checkpoint import read_checkpoint
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.info import INFO
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set
from crysgen_aiida.representations.slices import SlicesError, check, decode, net_hash, parse
from crysgen_aiida.screening.protocols import MatcherRule
from crysgen_aiida.screening.uniqueness import Known, judge_uniqueness

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "crysgen_aiida" / "starter"
DATA = Path(os.environ.get("CRYSGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
TARGETS = (-3.0, -2.0, -1.0)  # [eV/atom]
TOLERANCE = 0.3  # [eV/atom]
PAPER = {"temperature": 1.2, "top_p": 0.9}
ASKED = {"formation_energy_per_atom": list(TARGETS)}
#: name -> (conditions, settings of sampling)
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "masked": ({}, {}),
    "free": ({}, {"grammar": False}),
    "masked paper": ({}, PAPER),
    "free paper": ({}, {**PAPER, "grammar": False}),
    **{f"asked {g}": (ASKED, {"guidance": float(g)}) for g in (0, 1, 2, 4)},
}
#: The settings whose crystals are relaxed.
RELAXED = ("asked 0", "asked 2")
BARS = {
    "masked: grammatical": 99.9,
    "free: grammatical": 60.0,
    "hits, guidance 2 over dropped condition, relaxed": 2.0,
    "asked 2: Spearman of target and formation energy, relaxed": 0.6,
}


class Study:
    """One checkpoint judged; what was computed before is read from ``home``."""

    def __init__(self, checkpoint: Path, home: Path, n: int) -> None:
        self.checkpoint, self.n = checkpoint, n
        self.home = home / read_checkpoint(checkpoint).config["weights_sha256"][:12] / str(n)
        self.home.mkdir(parents=True, exist_ok=True)

    def strings(self, name: str) -> SequenceSet:
        """Return the strings of a setting."""
        path = self.home / f"{name}.strings.parquet"
        if not path.exists():
            conditions, sampling = SETTINGS[name]
            spec = INFO.make_spec({"sampling": {"batch": 64, "part_rows": 64, **sampling}})
            drawn = MatterGPT().sample(self.checkpoint, self.n, conditions, spec, seed=11, run=InProcess())
            drawn.write(path)
        return SequenceSet.read(path)

    def relaxed(self, name: str, n: int) -> CrystalSet:
        """Return the relaxed crystals of the first ``n`` strings of a setting, row for row."""
        path = self.home / f"{name}.relaxed-{n}.parquet"
        if not path.exists():
            spec = read_checkpoint(self.checkpoint).spec
            crystals = MatterGPT().decode(self.strings(name).slice(range(n)), spec, seed=1, run=InProcess())
            run = InProcess(on_progress=_tell(name))
            relax_set(crystals, potential="chgnet", spec=RelaxSpec(), run=run).write(path)
        return CrystalSet.read(path)

    def kept(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return figures that are computed once."""
        path = self.home / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(compute()))
        held: dict[str, Any] = json.loads(path.read_text())
        return held


def _tell(name: str) -> Callable[[str, int, int, dict[str, Any]], None]:
    return lambda stage, done, total, metrics: print(f"  {name}: {stage} {done}/{total}", flush=True)


@cache
def training_crystals() -> CrystalSet:
    """Return the starter set."""
    return CrystalSet.read(STARTER / "crystals.parquet")


@cache
def formulas_of_mp_part() -> frozenset[str]:
    """Return the reduced formulas of mp_part, empty if it is not there."""
    from pymatgen.core import Composition, Element

    path = DATA / "mp_part.csv.gz"
    if not path.exists():
        return frozenset()
    with gzip.open(path, "rt") as file:
        cells = [json.loads(row["structure"])["z"] for row in csv.DictReader(file)]
    return frozenset(Composition({Element.from_Z(z): n for z, n in Counter(c).items()}).reduced_formula for c in cells)


def character(strings: SequenceSet) -> dict[str, Any]:
    """Return validity, conversion to crystals, uniqueness and novelty of a setting; every share is of all strings."""
    n = len(strings)
    texts: list[str] = strings.column("sequence")
    nets = [t for t in texts if check(t)]
    structures = []
    for text in texts:
        try:
            structures.append(decode(text).structure())
        except SlicesError:
            structures.append(None)
    rule = MatcherRule()
    unique = judge_uniqueness(structures, rule).unique
    hits = Known({"training": training_crystals()}, rule).match("training", structures)
    seen = set(training_crystals().column("reduced_formula"))
    formulas = [None if s is None else s.composition.reduced_formula for s in structures]
    table = {
        "grammatical": share(grammatical(strings), n),
        "crystals": share(sum(s is not None for s in structures), n),
        "different nets": share(len({net_hash(parse(t)) for t in nets}), n),
        "unique crystals": share(sum(u is True for u in unique), n),
        "unique and new against training": share(
            sum(u is True and h is None for u, h in zip(unique, hits, strict=True)), n
        ),
        "formula new against training": share(sum(f is not None and f not in seen for f in formulas), n),
        "different formulas": share(len({f for f in formulas if f}), n),
        "atoms a crystal": figure(np.mean([len(s) for s in structures if s is not None]), "1"),
    }
    if formulas_of_mp_part():
        new = sum(f is not None and f not in seen and f not in formulas_of_mp_part() for f in formulas)
        table["formula new against training and mp_part"] = share(new, n)
    return table


def heeding(energies: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Return how well formation energies follow the targets; without an energy a string is a miss.

    The error in percent is the mean of |E - T| / |T| over strings with an energy (the paper's MAPE).
    """
    valid = np.isfinite(energies)
    hit = valid & (np.abs(energies - targets) <= TOLERANCE)
    table = {
        "hits": share(int(hit.sum()), len(targets)),
        "with an energy": share(int(valid.sum()), len(targets)),
        "Spearman of target and formation energy": spearman(targets, energies),
        "MAPE": figure(100 * np.mean(np.abs(energies - targets)[valid] / np.abs(targets[valid])), "%"),
    }
    for t in TARGETS:
        mine = targets == t
        table[f"hits at {t:g} eV/atom"] = share(int(hit[mine].sum()), int(mine.sum()))
        table[f"median at {t:g} eV/atom"] = figure(np.nanmedian(energies[mine]), "eV/atom")
    return table


def hits_of_new(strings: SequenceSet, energies: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Return the hits among strings of a formula that is in no crystal of the starter set: no memory helps there."""
    seen = set(training_crystals().column("reduced_formula"))
    new = np.array([bool(check(t)) and reduced(t) not in seen for t in strings.column("sequence")])
    hit = np.isfinite(energies) & (np.abs(energies - targets) <= TOLERANCE)
    return {
        "hits of new formulas": share(int((hit & new).sum()), int(new.sum())),
        "Spearman of target and formation energy of new formulas": spearman(targets[new], energies[new]),
    }


def reduced(string: str) -> str:
    """Return the reduced formula of a string."""
    from pymatgen.core import Composition

    formula: str = Composition(formula_of(string)).reduced_formula
    return formula


@cache
def starter_reference() -> ReferenceSet:
    """Return the reference energies of the starter archive."""
    from aiida import load_profile, orm
    from aiida.storage.sqlite_zip.backend import SqliteZipBackend

    load_profile(SqliteZipBackend.create_profile(STARTER / "starter.aiida"), allow_switch=True)
    reference: ReferenceSet = orm.load_node(json.loads((STARTER / "starter.json").read_text())["reference"]).table
    return reference


def relaxed_energies(crystals: CrystalSet) -> np.ndarray:
    """Return formation energies [eV/atom] against the starter reference's elements, NaN where there is none."""
    from crysgen_aiida.physics.reference import e_above_reference

    columns = e_above_reference(crystals, starter_reference())
    values = next(v for field, v in columns.items() if field.name == "formation_energy_per_atom")
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def distributions(masked: SequenceSet, free: SequenceSet) -> dict[str, Any]:
    """Compare what the mask writes with what the model writes right by itself."""
    table = {}
    for name, value in (("hull energy", hull_energies), ("atoms", _atoms), ("elements", _elements)):
        a, b = (v[np.isfinite(v)] for v in (value(masked), value(free)))
        test = ks_2samp(a, b)
        table[f"{name}: median masked, free"] = {**figure(np.median(a), "1"), "free": float(np.median(b))}
        table[f"{name}: Kolmogorov-Smirnov"] = {**figure(test.statistic, "1"), "p": float(test.pvalue)}
    return table


def _atoms(strings: SequenceSet) -> np.ndarray:
    return np.array([parse(t).n_atoms if check(t) else np.nan for t in strings.column("sequence")], dtype=float)


def _elements(strings: SequenceSet) -> np.ndarray:
    return np.array([len(formula_of(t).split()) if check(t) else np.nan for t in strings.column("sequence")], float)


def ratio(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio of two shares with its 95 % interval (logarithms, as of a risk ratio)."""
    (a, n), (b, m) = ((s["numerator"], s["denominator"]) for s in (part, whole))
    value = (a / n) / (b / m) if a and b else float("nan")
    spread = 1.96 * np.sqrt(1 / max(a, 1) - 1 / n + 1 / max(b, 1) - 1 / m)
    return figure(value, "x", (value * np.exp(-spread), value * np.exp(spread)))


def study(work: Study, n_relax: int) -> dict[str, Any]:
    """Return all figures of a checkpoint."""
    table: dict[str, Any] = {}
    targets = np.resize(TARGETS, work.n)

    def add(prefix: str, figures: dict[str, Any]) -> None:
        table.update({f"{prefix}: {name}": entry for name, entry in figures.items()})
        print_table({f"{prefix}: {name}": entry for name, entry in figures.items()})

    for name in SETTINGS:
        add(name, work.kept(name, lambda name=name: character(work.strings(name))))  # type: ignore[misc]
    add("masked and free", work.kept("both", lambda: distributions(work.strings("masked"), work.strings("free"))))
    judged: dict[str, Any] = {}
    for name in (s for s in SETTINGS if s.startswith("asked")):
        judged[name] = work.kept(f"{name}.hull", lambda name=name: heeding(hull_energies(work.strings(name)), targets))  # type: ignore[misc]
        add(name, {f"{k}, hull": v for k, v in judged[name].items()})
        new = work.kept(
            f"{name}.new",
            lambda name=name: hits_of_new(work.strings(name), hull_energies(work.strings(name)), targets),  # type: ignore[misc]
        )
        add(name, {f"{k}, hull": v for k, v in new.items()})
    for name in RELAXED if n_relax else ():
        found = heeding(relaxed_energies(work.relaxed(name, n_relax)), targets[:n_relax])
        judged[f"{name} relaxed"] = found
        add(name, {f"{k}, relaxed": v for k, v in found.items()})
    pairs = [("hull", "asked 2", "asked 0")]
    pairs += [("relaxed", "asked 2 relaxed", "asked 0 relaxed")] if n_relax else []
    for judge, asked, dropped in pairs:
        name = f"hits, guidance 2 over dropped condition, {judge}"
        table[name] = ratio(judged[asked]["hits"], judged[dropped]["hits"])
        print_table({name: table[name]})
    return table


def judge(title: str, entry: dict[str, Any]) -> None:
    """Note the bar of a figure and whether its interval's lower end (the value, where it has none) reaches it."""
    entry["bar"] = BARS.get(title)
    entry["met"] = None if entry["bar"] is None else bool(entry["value"] >= entry["bar"])


def print_table(table: dict[str, Any]) -> None:
    """Print figures, a line each."""
    for title, entry in table.items():
        judge(title, entry)
        interval = "" if entry["interval"] is None else "  [{:.2f}, {:.2f}]".format(*entry["interval"])
        bar = "" if entry["bar"] is None else f"  bar {entry['bar']:g}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {title:<74} {entry['value']:9.2f} {entry['unit']}{interval}{bar}", flush=True)


#: Rows of the tables of ``docs/results/mattergpt.md``: title, figure.
WRITTEN = (
    ("grammatical", "grammatical"),
    ("become crystals", "crystals"),
    ("different nets", "different nets"),
    ("unique crystals", "unique crystals"),
    ("unique, and no crystal of the starter set", "unique and new against training"),
    ("formula not in the starter set", "formula new against training"),
    ("nor among those of mp_part", "formula new against training and mp_part"),
)
HEEDED = (
    ("hits, within 0.3 eV/atom [%]", "hits"),
    *((f"hits at {t:g} eV/atom [%]", f"hits at {t:g} eV/atom") for t in reversed(TARGETS)),
    ("hits among strings of new formulas [%]", "hits of new formulas"),
    ("Spearman of target and energy", "Spearman of target and formation energy"),
    ("mean error relative to the target (MAPE) [%]", "MAPE"),
    *((f"median at {t:g} [eV/atom]", f"median at {t:g} eV/atom") for t in reversed(TARGETS)),
)


def markdown(table: dict[str, Any]) -> str:
    """Return the tables of the results page."""

    def cell(name: str) -> str:
        entry = table.get(name)
        if entry is None:
            return ""
        digits = 0 if name.endswith(("MAPE, hull", "MAPE, relaxed")) else 2 if entry["unit"] in ("1", "eV/atom") else 1
        interval = "" if entry["interval"] is None else " [{:.{d}f}, {:.{d}f}]".format(*entry["interval"], d=digits)
        return f"{entry['value']:.{digits}f}{interval}"

    def lines(head: str, rows: Sequence[tuple[str, str]], columns: Sequence[str], end: str) -> list[str]:
        body = [f"| {title} | " + " | ".join(cell(f"{c}: {name}{end}") for c in columns) + " |" for title, name in rows]
        return [f"| {head} | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns), *body, ""]

    drawn = [name for name in SETTINGS if not name.startswith("asked")]
    asked = [name for name in SETTINGS if name.startswith("asked")]
    text = lines("[%]", WRITTEN, drawn, "") + lines("hull judge", HEEDED, asked, ", hull")
    if any(name.endswith(", relaxed") for name in table):
        rows = [row for row in HEEDED if "new formulas" not in row[1]]
        text += lines("relaxed judge", (*rows, ("relaxed [%]", "with an energy")), RELAXED, ", relaxed")
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with ``--json`` and ``--markdown`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a trained model")
    parser.add_argument("--home", type=Path, required=True, help="folder that keeps what was computed")
    parser.add_argument("--full", action="store_true", help="1,000 strings a setting")
    parser.add_argument("--n", type=int, default=200, help="strings a setting (default 200)")
    parser.add_argument("--relax", type=int, default=0, metavar="N", help="relax the first N strings of two settings")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    n = 1000 if options.full else options.n
    table = study(Study(options.checkpoint, options.home, n), min(options.relax, n))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(table))


if __name__ == "__main__":
    main()
