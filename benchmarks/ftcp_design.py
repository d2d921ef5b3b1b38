"""Crystals designed for a formation energy: FTCP against random rows of the data, random points and substitution.

    python benchmarks/ftcp_design.py CHECKPOINT --data SET --home DIR                  20 designs a target: minutes
    python benchmarks/ftcp_design.py CHECKPOINT --data SET --home DIR --full           200 designs a target
    python benchmarks/ftcp_design.py CHECKPOINT --data SET --home DIR --full --json FILE

SET is the crystal set (Parquet) that the model was trained on. Everything is kept in DIR: repeated, the command goes on
where it was.

The four stages are those of Z. Ren et al., Matter 5, 314 (2022). Stage 1 asks for -0.5, -0.3, -0.6 and -0.7 eV/atom.
Stage 2 designs: points are drawn, decoded and read; a design leaves the stage if it is a crystal whose reduced formula
is neither in the data nor that of an earlier design. Stage 3 relaxes with CHGNet; stage 4 takes the formation energy
against elements of the same potential. A *success* is a relaxed crystal within 0.06 eV/atom of the target; the
denominator is all designs that left stage 2. ``--dissimilarity`` adds the least distance of the site fingerprints of a
design to those of the data. With the tables of ``benchmarks/hulls.py`` at hand, distances to their hull are taken too.
The arms differ in stage 2 alone and have the same number of designs:

* ``lp``: local perturbation of the training points nearest to the target; kept are crystals of new formulas with room
  for their atoms, whose formation energy, read of the decoded crystal, is predicted within the tolerance;
* ``random``: the same around training points drawn at random, whatever is predicted;
* ``substitution``: elements exchanged in crystals of the training set near the target;
* ``unfiltered``: as ``lp``, whatever is predicted and however close atoms are;
* ``automatic``: as ``lp``, with the largest scale that gives fewer than 20 % errors (the paper's rule).

The random success rate is the share of rows of the data that, relaxed and judged in the same way, lie within the
tolerance. The improvement is success / random - 1, its interval that of a ratio of two shares.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from hulls import DATA, TestedHull
from mattergpt import figure, share
from mattergpt_results import print_table, ratio, starter_reference

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.crystals.matching import moved
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import PropertyTable, SequenceSet
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.physics.reference import e_above_reference
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set
from crysgen_aiida.screening.fingerprints import KnownFingerprints, fingerprint_set

#: Crystals this near to the hull are called near [eV/atom], as in S.U.N.
NEAR = 0.1
T = TypeVar("T", CrystalSet, PropertyTable)
ASKED = "formation_energy_per_atom"
TARGETS = (-0.5, -0.3, -0.6, -0.7)  # [eV/atom]
TOLERANCE = 0.06  # [eV/atom]
#: Draws for each design that is wanted: stage 2 takes the first that leave it.
DRAWS = 5
RELAX = RelaxSpec(max_steps=300, optimizer="lbfgs")
#: Of the noise, in widths of the posterior, as the recipe `ftcp-formation-energy` has it.
SCALE = 1.2
ROOM = {"filter": True, "new_formula": True, "attempts": 100}
FILTER = {**ROOM, "tolerances": [f"{ASKED}:{TOLERANCE}"]}
#: name -> (generator, whether it is asked for the target, settings of sampling)
ARMS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "lp": ("ftcp", True, {"scale": SCALE, **FILTER}),
    "random": ("ftcp", False, {"scale": SCALE, **ROOM}),
    "substitution": ("substitution", True, {"bandwidth": 0.1}),
    "unfiltered": ("ftcp", True, {"scale": SCALE}),
    "automatic": ("ftcp", True, FILTER),
}
DISSIMILAR = 0.75  # of the Materials Project
BARS = {"lp, pooled: improvement over random": 132.0}


class Study:
    """Designs of one checkpoint, kept in a folder.

    :param data: what the model was trained on.
    :param n: designs a target and arm.
    :param rows: rows of the data for the random success rate.
    """

    def __init__(self, checkpoint: Path, data: CrystalSet, home: Path, n: int, rows: int, seed: int) -> None:
        self.checkpoint, self.data, self.home = checkpoint, data, home
        self.n, self.rows, self.seed = n, rows, seed

    def kept(self, name: str, compute: Callable[[InProcess], T], kind: type[T] = CrystalSet) -> T:
        """Return a table from the folder, computed if it is not there."""
        path = self.home / f"{name}.parquet"
        if not path.exists():
            folder = self.home / name
            folder.mkdir(parents=True, exist_ok=True)
            compute(InProcess(folder=folder, on_progress=_tell(name))).write(path)
        return kind.read(path)

    @cached_property
    def spec(self) -> Any:
        """The settings the model was trained with."""
        config = json.loads((self.checkpoint / "config.json").read_text())
        return get_generator("ftcp").make_spec(config["spec"])

    @cached_property
    def learned(self) -> CrystalSet:
        """The rows of the data that the model could learn from."""
        why = get_generator("ftcp").load().prepare(self.data, self.spec, seed=self.seed, run=InProcess())
        rows = [row for row, ok in zip(why.column("parent_row"), why.ok, strict=True) if ok]
        return self.data.take(rows)

    @cached_property
    def prototypes(self) -> Path:
        """The checkpoint of element substitution, made of the same rows."""
        info = get_generator("substitution")
        spec = info.make_spec({"data": {"conditions": [ASKED]}})
        folder = self.home / "substitution"
        folder.mkdir(parents=True, exist_ok=True)
        run = InProcess(folder=folder)
        generator = info.load()
        return generator.train(generator.prepare(self.learned, spec, seed=1, run=run), spec, seed=1, run=run)

    def drawn(self, arm: str, target: float) -> SequenceSet:
        """Return what stage 2 draws, before anything is left out."""
        name, heeds, sampling = ARMS[arm]
        checkpoint = self.checkpoint if name == "ftcp" else self.prototypes
        info = get_generator(name)
        spec = info.make_spec({"sampling": sampling})
        path = self.home / f"{arm} {target:g} drawn.parquet"
        if not path.exists():
            conditions = {ASKED: target} if heeds else {}
            seed = self.seed if heeds else self.seed + TARGETS.index(target)  # what is not asked makes no difference
            run = InProcess(on_progress=_tell(f"{arm} {target:g}"))
            info.load().sample(checkpoint, DRAWS * self.n, conditions, spec, seed=seed, run=run).write(path)
        return SequenceSet.read(path)

    def decoded(self, arm: str, target: float) -> CrystalSet:
        """Return the crystals of what was drawn, row for row."""
        info = get_generator(ARMS[arm][0])
        spec = self.spec if info.name == "ftcp" else info.make_spec({})
        drawn = self.drawn(arm, target)
        return self.kept(
            f"{arm} {target:g} decoded", lambda run: info.load().decode(drawn, spec, seed=self.seed, run=run)
        )

    def stage2(self, arm: str, target: float) -> tuple[CrystalSet, dict[str, int]]:
        """Return the first designs that leave stage 2, and how many were looked at and left out for what."""
        crystals = self.decoded(arm, target)
        known = {f for f in self.data.column("reduced_formula") if f}
        funnel = {"drawn": 0, "no crystal": 0, "formula in the data": 0, "formula of an earlier design": 0}
        seen: set[str] = set()
        rows: list[int] = []
        for row, (ok, formula) in enumerate(zip(crystals.ok, crystals.column("reduced_formula"), strict=True)):
            if len(rows) == self.n:
                break
            funnel["drawn"] += 1
            if not ok:
                funnel["no crystal"] += 1
            elif formula in known:
                funnel["formula in the data"] += 1
            elif formula in seen:
                funnel["formula of an earlier design"] += 1
            else:
                seen.add(formula)
                rows.append(row)
        return crystals.take(rows), funnel

    def relaxed(self, arm: str, target: float) -> CrystalSet:
        """Return the designs after stage 3, row for row."""
        designs, _ = self.stage2(arm, target)
        name = f"{arm} {target:g} relaxed {len(designs)}"
        return self.kept(name, lambda run: relax_set(designs, potential="chgnet", spec=RELAX, run=run))

    def relaxed_data(self) -> CrystalSet:
        """Return some rows the model learned from, drawn by the seed, relaxed in the same way."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.learned))[: self.rows]
        some = self.learned.take(sorted(chosen.tolist()))
        return self.kept(
            f"data relaxed {len(some)}", lambda run: relax_set(some, potential="chgnet", spec=RELAX, run=run)
        )

    @cached_property
    def fingerprints(self) -> KnownFingerprints:
        """Site fingerprints of all rows the model learned from."""
        table = self.kept("fingerprints", lambda run: fingerprint_set(self.learned, run=run), PropertyTable)
        return KnownFingerprints({"data": table})

    def dissimilarities(self, arm: str) -> list[float]:
        """Return how unlike every row of the data the relaxed designs of an arm are."""
        found = []
        for target in TARGETS:
            relaxed = self.relaxed(arm, target)
            valid = relaxed.take(np.flatnonzero(judged(relaxed)["relaxed"]).tolist())
            name = f"{arm} {target:g} fingerprints {len(relaxed)}"
            made = self.kept(name, lambda run, valid=valid: fingerprint_set(valid, run=run), PropertyTable)
            found += [self.fingerprints.nearest(v)[0] for v in made.column("fingerprint") if v]
        return found


def _tell(name: str) -> Callable[[str, int, int, dict[str, Any]], None]:
    def tell(stage: str, done: int, total: int, _: dict[str, Any]) -> None:
        if done % 50 == 0 or done == total:
            print(f"    {name}: {stage} {done}/{total}", flush=True)

    return tell


def above_hull(hull: TestedHull, crystals: CrystalSet, *, without_self: bool = False) -> np.ndarray:
    """Return the distances of relaxed crystals to the tested hull [eV/atom], NaN where there is none."""
    energies, formulas = crystals.values("energy_per_atom"), crystals.column("reduced_formula")
    return np.array(
        [
            hull.above(formula, energy, without_self=without_self) if formula and np.isfinite(energy) else np.nan
            for formula, energy in zip(formulas, energies, strict=True)
        ]
    )


def stability(name: str, found: dict[str, np.ndarray], above: np.ndarray) -> dict[str, Any]:
    """Return how many crystals are on or below the tested hull, and near it, of all that were to be relaxed."""
    good, n = found["relaxed"], len(above)
    return {
        f"{name}: on or below the tested hull": share(int((good & (above <= 0)).sum()), n),
        f"{name}: within {NEAR} eV/atom of the tested hull": share(int((good & (above <= NEAR)).sum()), n),
        f"{name}: not judged": share(int((good & ~np.isfinite(above)).sum()), n),
    }


def judged(crystals: CrystalSet) -> dict[str, np.ndarray]:
    """Return, for relaxed crystals, the values of the reference as arrays, NaN where there is none."""
    columns = {f.name: v for f, v in e_above_reference(crystals, starter_reference()).items()}
    converged = np.array([v is True for v in crystals.column("converged")])
    found = {"relaxed": crystals.ok & converged}
    found[ASKED] = np.array([np.nan if v is None else v for v in columns[ASKED]], dtype=float)
    return found


def successes(found: dict[str, np.ndarray], target: float) -> np.ndarray:
    """Return which relaxed crystals have the formation energy that was asked for."""
    return found["relaxed"] & (np.abs(found[ASKED] - target) <= TOLERANCE)


def distances(designs: CrystalSet, relaxed: CrystalSet) -> list[tuple[float, bool]]:
    """Return how far atoms moved [A], and whether a match was found, of every design that relaxed."""
    return [moved(designs.structure(row), relaxed.structure(row)) for row in np.flatnonzero(relaxed.ok).tolist()]


def study(work: Study, arms: list[str], dissimilarity: bool, hull: TestedHull | None) -> dict[str, Any]:
    """Return all figures of some arms."""
    table: dict[str, Any] = {}

    def add(figures: dict[str, Any]) -> None:
        table.update(figures)
        print_table(complete(figures))

    data = judged(work.relaxed_data())
    random = {t: share(int(successes(data, t).sum()), len(data["relaxed"])) for t in TARGETS}
    add({f"data, {t:g}: random success": entry for t, entry in random.items()})
    if hull is not None:
        add(stability("data, own entries left out", data, above_hull(hull, work.relaxed_data(), without_self=True)))
    for arm in arms:
        every: list[dict[str, np.ndarray]] = []
        above: list[np.ndarray] = []
        hits, total, coming = 0, 0, 0.0
        paths: list[tuple[float, bool]] = []
        for t in TARGETS:
            designs, funnel = work.stage2(arm, t)
            relaxed = work.relaxed(arm, t)
            found = judged(relaxed)
            won, n = int(successes(found, t).sum()), len(designs)
            add(
                {
                    f"{arm}, {t:g}: {name}": figure(count, "draws") for name, count in funnel.items()
                }
                | {
                    f"{arm}, {t:g}: validity": share(int(found["relaxed"].sum()), n),
                    f"{arm}, {t:g}: success": share(won, n),
                    f"{arm}, {t:g}: median formation energy": figure(np.nanmedian(found[ASKED]), "eV/atom"),
                    f"{arm}, {t:g}: improvement over random": improvement(share(won, n), random[t]),
                }
            )  # fmt: skip
            hits, total = hits + won, total + n
            coming += n * random[t]["numerator"] / random[t]["denominator"]
            every.append(found)
            if hull is not None:
                above.append(above_hull(hull, relaxed))
            paths += distances(designs, relaxed)
        size = random[TARGETS[0]]["denominator"]
        pool = share(round(coming / total * size * len(TARGETS)), size * len(TARGETS))
        add(
            {
                f"{arm}, pooled: success": share(hits, total),
                f"{arm}, pooled: random success": pool,
                f"{arm}, pooled: improvement over random": improvement(share(hits, total), pool),
                f"{arm}, pooled: moved in relaxation, median": figure(np.median([far for far, _ in paths]), "A"),
                f"{arm}, pooled: no match with what it was": share(sum(not found for _, found in paths), len(paths)),
            }
        )
        if hull is not None:
            whole = {key: np.concatenate([found[key] for found in every]) for key in every[0]}
            add(stability(f"{arm}, pooled", whole, np.concatenate(above)))
        if dissimilarity:
            far = work.dissimilarities(arm)
            add(
                {
                    f"{arm}, pooled: dissimilarity, {q} %": figure(np.percentile(far, q), "1")
                    for q in (5, 25, 50, 75, 95)
                }
                | {f"{arm}, pooled: dissimilar": share(sum(d >= DISSIMILAR for d in far), len(far))}
            )
    return complete(table)


def improvement(success: dict[str, Any], random: dict[str, Any]) -> dict[str, Any]:
    """Return success / random - 1 in percent, with the interval of the ratio."""
    found = ratio(success, random)
    low, high = found["interval"]
    return figure(100 * (found["value"] - 1), "%", (100 * (low - 1), 100 * (high - 1)))


def complete(table: dict[str, Any]) -> dict[str, Any]:
    """Return figures with their bars."""
    for name, entry in table.items():
        entry["bar"] = BARS.get(name)
        entry["met"] = None if entry["bar"] is None else bool(entry["value"] >= entry["bar"])
    return table


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="crystal set (Parquet) the model was trained on")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--full", action="store_true", help="200 designs a target and 1,000 rows of the data")
    parser.add_argument("--n", type=int, help="designs a target and arm")
    parser.add_argument("--rows", type=int, help="rows of the data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["lp", "random", "substitution"])
    parser.add_argument("--dissimilarity", action="store_true", help="to the data (matminer; 0.15 s a row of it)")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    asked.home.mkdir(parents=True, exist_ok=True)
    n, rows = asked.n or (200 if asked.full else 20), asked.rows or (1000 if asked.full else 50)
    work = Study(asked.checkpoint, CrystalSet.read(asked.data), asked.home, n, rows, asked.seed)
    hull = TestedHull() if DATA.is_dir() else print("No tables in CRYSGEN_TEST_DATA: nothing is said of stability.")
    table = study(work, asked.arms, asked.dissimilarity, hull)
    if asked.json:
        write_text(asked.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
