"""Candidates as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.store.address import Address, load_node
from crysgen_aiida.store.candidates import records
from crysgen_aiida.store.ranking import DEFAULT, Query, query_of, rank

if TYPE_CHECKING:
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.store.candidates import CandidateSet
    from crysgen_aiida.store.index.database import Index

#: Format to suffix of its files.
KINDS = {"cif": ".cif", "poscar": ".vasp", "extxyz": ".extxyz", "jsonl": ".jsonl"}


def best(candidates: CandidateSet, top: int) -> list[dict[str, Any]]:
    """Return the ``top`` best of a set by the rule it was ranked by, as records with rank and score."""
    ordered, _ = rank(candidates.frame, Query.from_dict(query_of(candidates) or DEFAULT))
    return records(ordered.head(top))


def export_best(candidates: CandidateSet, top: int, kind: str, output: Path) -> list[Path]:
    """Write the ``top`` best of a set as structure files and ``candidates.csv``; return the structure files.

    :param kind: one of :data:`KINDS`.
    :raises EmptySet: if there is nothing to write.
    """
    rows = best(candidates, top)
    return write_structures(rows, [candidates.relaxed.table.take([int(r["row"])]) for r in rows], kind, output)


def rows_at(index: Index, addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Return the current values of these candidates, with their full addresses.

    :raises ImpossibleRequest: if an address is no candidate of the index.
    """
    from crysgen_aiida.store.explain.runs import find_candidate
    from crysgen_aiida.store.explain.show import wide_row

    known = index.columns()
    rows = []
    for text in addresses:
        found = find_candidate(index, text)
        values = {name: value for name, value in wide_row(index, found).items() if name in known}
        rows.append({"address": found.address.full, **values})
    return rows


def export_rows(rows: list[dict[str, Any]], kind: str, output: Path) -> list[Path]:
    """Write candidates of the index as structure files and ``candidates.csv``; return the structure files.

    :param rows: records with the full ``address``, as ranking gives them; their crystals are read from the graph.
    :param kind: one of :data:`KINDS`.
    :raises EmptySet: if there is nothing to write.
    """
    sets: dict[str, Any] = {}
    crystals = []
    for row in rows:
        address = Address.parse(str(row["address"]))
        if address.uuid not in sets:
            sets[address.uuid] = load_node(address).table
        crystals.append(sets[address.uuid].take([address.row]))
    return write_structures(rows, crystals, kind, output)


def write_structures(rows: list[dict[str, Any]], crystals: list[CrystalSet], kind: str, output: Path) -> list[Path]:
    """Write one file a crystal, named by place, formula and address, and a table of them all.

    Candidates that hold no crystal are left out.

    :param crystals: sets of one row, in the order of ``rows``, whose records have ``address``.
    :raises EmptySet: if there is nothing to write.
    """
    import pandas as pd

    from crysgen_aiida.crystals.files import write_text
    from crysgen_aiida.crystals.writers import WRITERS

    if not rows:
        raise EmptySet("There is no candidate to export; see `crysgen candidate rank` for what the constraints leave.")
    there = [(row, held) for row, held in zip(rows, crystals, strict=True) if held.column("lattice")[0] is not None]
    if not there:
        raise EmptySet("None of these candidates holds a crystal: they failed before; see `crysgen candidate show`.")
    rows = [row for row, _ in there]
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for place, (record, crystal) in enumerate(there, start=1):
        address = Address.parse(str(record["address"]))
        formula = crystal.column("reduced_formula")[0]
        path = output / f"{place:03d}_{formula}_{address.uuid[:8]}_{address.row}{KINDS[kind]}"
        write_text(path, WRITERS[kind](crystal))
        record["file"] = path.name
        written.append(path)
    frame = pd.DataFrame(rows)
    write_text(output / "candidates.csv", frame[[c for c in frame.columns if c != "row"]].to_csv(index=False))
    return written
