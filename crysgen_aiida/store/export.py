"""Candidates as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.store.address import Address
from crysgen_aiida.store.candidates import of_address, records
from crysgen_aiida.store.ranking import DEFAULT, Query, query_of, rank

if TYPE_CHECKING:
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.store.candidates import CandidateSet

#: Format to suffix of its files.
KINDS = {"cif": ".cif", "poscar": ".vasp", "extxyz": ".extxyz", "jsonl": ".jsonl"}


def best(candidates: CandidateSet, top: int) -> list[dict[str, Any]]:
    """Return the ``top`` best of a set by the rule it was ranked by, as records with rank and score."""
    ordered, _ = rank(candidates.frame, Query.from_dict(query_of(candidates) or DEFAULT))
    return records(ordered.head(top))


def export_candidates(
    addresses: list[str], candidates: CandidateSet | None, top: int, kind: str, output: Path
) -> list[Path]:
    """Write structure files and ``candidates.csv``; return the structure files.

    :param addresses: which candidates; with none, the ``top`` best of ``candidates`` by the rule it was ranked by.
    :param kind: one of :data:`KINDS`.
    :raises EmptySet: if there is nothing to write.
    """
    rows: list[dict[str, Any]] = []
    crystals: list[CrystalSet] = []
    for text in addresses:
        found, row = of_address(text)
        match = found.frame[found.frame["row"] == row]
        rows += records(match.head(1)) or [{"address": Address(found.relaxed.uuid, row).full}]
        crystals.append(found.relaxed.table.take([row]))
    if not addresses and candidates is not None:
        for record in best(candidates, top):
            rows.append(record)
            crystals.append(candidates.relaxed.table.take([int(record["row"])]))
    if not rows:
        raise EmptySet("There is no candidate to export; see `crysgen candidate rank` for what the constraints leave.")
    return write_structures(rows, crystals, kind, output)


def write_structures(rows: list[dict[str, Any]], crystals: list[CrystalSet], kind: str, output: Path) -> list[Path]:
    """Write one file a crystal, named by place, formula and address, and a table of them all.

    :param crystals: sets of one row, in the order of ``rows``, whose records have ``address``.
    """
    import pandas as pd

    from crysgen_aiida.crystals.files import write_text
    from crysgen_aiida.crystals.writers import WRITERS

    output.mkdir(parents=True, exist_ok=True)
    written = []
    for place, (record, crystal) in enumerate(zip(rows, crystals, strict=True), start=1):
        address = Address.parse(str(record["address"]))
        formula = crystal.column("reduced_formula")[0]
        path = output / f"{place:03d}_{formula}_{address.uuid[:8]}_{address.row}{KINDS[kind]}"
        write_text(path, WRITERS[kind](crystal))
        record["file"] = path.name
        written.append(path)
    frame = pd.DataFrame(rows)
    write_text(output / "candidates.csv", frame[[c for c in frame.columns if c != "row"]].to_csv(index=False))
    return written
