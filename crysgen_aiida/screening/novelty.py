"""New against known sets: by formula, by structure and by how unlike its sites are, each a verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import NotInstalled
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening.fingerprints import KnownFingerprints, fingerprint_workers, fingerprints_of, method
from crysgen_aiida.screening.uniqueness import Known

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Rows of one finished part.
PART_ROWS = 64

Columns = dict[pa.Field, list[Any]]

_NO_SET, _NO_CRYSTAL = "no known set was given", "it was not judged: no valid crystal"


def judge_formulas(
    formulas: Sequence[str | None],
    known: Mapping[str, CrystalSet],
    more: Mapping[str, frozenset[str]] | None = None,
) -> Columns:
    """Return ``new_formula`` and ``new_formula_against.<set>``: whether no known crystal has the reduced formula.

    :param formulas: of the crystals judged, None where there is none.
    :param more: reduced formulas that are known without a crystal, by label.
    """
    flag, columns = pa.bool_(), Columns()
    there: dict[str, frozenset[str]] = {
        name: frozenset(f for f, ok in zip(held.column("reduced_formula"), held.ok, strict=True) if ok)
        for name, held in known.items()
    }
    there.update(more or {})
    names = sorted(there)
    for name in names:
        verdict = [None if f is None else f not in there[name] for f in formulas]
        columns[pa.field(f"new_formula_against.{name}", flag)] = verdict
    hits = [[name for name in names if f in there[name]] for f in formulas]
    judged = [f is not None and bool(names) for f in formulas]
    columns[pa.field("new_formula", flag)] = [not h if j else None for h, j in zip(hits, judged, strict=True)]
    reasons = []
    for formula, found, is_judged in zip(formulas, hits, judged, strict=True):
        why = f"the known set {' and '.join(map(repr, found))} has the formula {formula}" if found else None
        reasons.append(why if is_judged else _NO_CRYSTAL if names else _NO_SET)
    columns[pa.field("new_formula_reason", pa.string())] = reasons
    return columns


def judge_structures(structures: Sequence[Structure | None], known: Known, run: Run) -> Columns:
    """Return ``novel``, ``novel_against.<set>`` and ``known_as.<set>``: whether no known crystal matches."""

    def part(rows: range) -> PropertyTable:
        run.check_time()
        here = [structures[row] for row in rows]
        hits = {
            pa.field(f"known.{label}", pa.int64()): pa.array(known.match(label, here), type=pa.int64())
            for label in known.labels
        }
        return PropertyTable(pa.table({"parent_row": pa.array(rows, type=pa.int64())})).with_columns(hits)

    matched = run.map_rows("match", len(structures), part, part_rows=PART_ROWS)
    columns: Columns = {}
    found: list[list[str]] = [[] for _ in structures]
    for label in known.labels:
        hits = matched.column(f"known.{label}")
        verdict = [None if s is None else hit is None for s, hit in zip(structures, hits, strict=True)]
        columns[pa.field(f"novel_against.{label}", pa.bool_())] = verdict
        columns[pa.field(f"known_as.{label}", pa.int64())] = hits
        for names, hit in zip(found, hits, strict=True):
            if hit is not None:
                names.append(f"row {hit} of the known set {label!r}")
    judged = [s is not None and bool(known.labels) for s in structures]
    columns[pa.field("novel", pa.bool_())] = [not f if j else None for f, j in zip(found, judged, strict=True)]
    reasons = [
        (f"the same structure as {' and '.join(names)}" if names else None)
        if is_judged
        else _NO_CRYSTAL
        if known.labels
        else _NO_SET
        for names, is_judged in zip(found, judged, strict=True)
    ]
    columns[pa.field("novel_reason", pa.string())] = reasons
    return columns


def judge_dissimilarity(
    structures: Sequence[Structure | None], tables: Mapping[str, PropertyTable], threshold: float, run: Run
) -> Columns:
    """Return ``dissimilarity``, ``most_similar`` and ``dissimilar``, from tables of fingerprints of known crystals.

    Without matminer nothing is known of any row, and the reason says so.

    :param threshold: rows at least so far from every known fingerprint are dissimilar.
    """
    known = KnownFingerprints(dict(tables))
    try:
        made_by = method()
    except NotInstalled as error:
        return _dissimilar(
            "none", [(None, None, None if s is None else str(error)) for s in structures], structures, threshold
        )
    if known.method != made_by:
        run.warn(f"Fingerprints of the known crystals are {known.method}, those of the crystals judged are {made_by}.")

    def part(rows: range) -> PropertyTable:
        results = fingerprints_of([structures[row] for row in rows], workers.map)
        near = [None if values is None else known.nearest(values) for values, _ in results]
        return PropertyTable(
            pa.table(
                {
                    "parent_row": pa.array(rows, type=pa.int64()),
                    "distance": pa.array([None if n is None else n[0] for n in near], type=pa.float64()),
                    "most_similar": pa.array([None if n is None else f"{n[1]}:{n[2]}" for n in near], type=pa.string()),
                    "why": pa.array([why for _, why in results], type=pa.string()),
                }
            )
        )

    with fingerprint_workers(run, len(structures)) as workers:
        found = run.map_rows("dissimilarity", len(structures), part, part_rows=PART_ROWS)
    results = zip(found.column("distance"), found.column("most_similar"), found.column("why"), strict=True)
    return _dissimilar(made_by, list(results), structures, threshold)


def _dissimilar(
    made_by: str,
    found: Sequence[tuple[float | None, str | None, str | None]],
    structures: Sequence[Structure | None],
    threshold: float,
) -> Columns:
    reasons: list[str | None] = []
    for (distance, most_similar, why), structure in zip(found, structures, strict=True):
        if structure is None:
            reasons.append(_NO_CRYSTAL)
        elif distance is not None and distance < threshold:
            reasons.append(f"{distance:.3f} from {most_similar}, closer than {threshold:g}")
        else:
            reasons.append(why)
    distances = [distance for distance, _, _ in found]
    return {
        schema.property_field("dissimilarity", made_by): distances,
        pa.field("most_similar", pa.string()): [name for _, name, _ in found],
        pa.field("dissimilar", pa.bool_()): [None if d is None else d >= threshold for d in distances],
        pa.field("dissimilar_reason", pa.string()): reasons,
    }
