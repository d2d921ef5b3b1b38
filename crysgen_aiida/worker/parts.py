"""Finished parts of long work, and the journal that tells what was worked on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, CrysgenError
from crysgen_aiida.crystals.table import PackedTable, PropertyTable, ReferenceSet, SequenceSet
from crysgen_aiida.worker.folder import JOURNAL, PARTS, append_line, mend_lines, read_lines, write_whole

#: The class of each kind of packed set.
CLASSES: dict[str, type[PackedTable]] = {
    schema.CRYSTALS: CrystalSet,
    schema.SEQUENCES: SequenceSet,
    schema.TABLE: PropertyTable,
    schema.REFERENCE: ReferenceSet,
}

_STAGE = re.compile(r"[A-Za-z0-9_.]+")


class Journal:
    """One line for each unit of work done: ``{"stage", "start", "stop"}``, appended when the unit is safe on the disk.

    Lines taken over from a parent folder carry ``"from_parent": true``, lines of work done again after the clock had
    stopped it ``"retried": true``.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        mend_lines(self.path)
        self._hashes = {_unit(line): line.get("content_hash") for line in read_lines(self.path)}

    def __contains__(self, unit: tuple[str, int, int]) -> bool:
        return unit in self._hashes

    def hash_of(self, unit: tuple[str, int, int]) -> str | None:
        """Return the content hash noted for a unit, or None."""
        return self._hashes.get(unit)

    def add(self, stage: str, start: int, stop: int, *, content_hash: str | None, **marks: Any) -> None:
        """Note a unit of work as done."""
        line: dict[str, Any] = {"stage": stage, "start": start, "stop": stop, **marks}
        line["content_hash"] = content_hash
        append_line(self.path, line, durable=True)
        self._hashes[(stage, start, stop)] = content_hash

    def clear(self) -> None:
        """Forget everything: the folder now belongs to another job."""
        self.path.unlink(missing_ok=True)
        self._hashes.clear()


class PartStore:
    """Parquet files ``parts/<stage>-<start>-<stop>.parquet``: whole or absent, and never trusted unread."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder / PARTS
        self.journal = journal
        self.folder.mkdir(exist_ok=True)
        self._mine: set[tuple[str, int, int]] = set()

    def path(self, stage: str, rows: range) -> Path:
        """Return where the part of ``rows`` is kept.

        :raises CrysgenError: if the stage has a name that cannot be part of a file name.
        """
        if not _STAGE.fullmatch(stage):
            raise CrysgenError(f"The stage {stage!r} must be named with letters, digits, '_' and '.' only.")
        return self.folder / f"{stage}-{rows.start}-{rows.stop}.parquet"

    def load(self, stage: str, rows: range) -> tuple[PackedTable | None, str | None]:
        """Return the finished part of ``rows``, or None and why it must be computed (None if it is simply not there).

        A part in which the clock stopped a row is finished only within the start that made it: a later one retries.
        """
        path = self.path(stage, rows)
        if not path.exists():
            return None, None
        unit = (stage, rows.start, rows.stop)
        try:
            part = read_any(path)
        except BadInput as error:
            path.unlink()
            return None, f"A finished part was damaged and is computed again: {error}"
        noted = self.journal.hash_of(unit)
        if noted is not None and noted != part.content_hash:
            path.unlink()
            return None, f"The finished part {path.name} is not what the journal says and is computed again."
        if unit not in self._mine and schema.STATUS_TIMEOUT in part.column("status"):
            return None, f"{path.name} has rows that the clock had stopped; they are tried again."
        if unit not in self.journal:  # killed between the part and its line
            self.journal.add(*unit, content_hash=part.content_hash)
        self._mine.add(unit)
        return part, None

    def save(self, stage: str, rows: range, part: PackedTable) -> PackedTable:
        """Write a part, note it in the journal and return it as read back, so that resuming cannot change a byte."""
        unit = (stage, rows.start, rows.stop)
        write_packed(self.path(stage, rows), part)
        held = read_any(self.path(stage, rows))
        marks: dict[str, Any] = {"retried": True} if unit in self.journal else {}
        self.journal.add(*unit, content_hash=held.content_hash, **marks)
        self._mine.add(unit)
        return held

    def clear(self) -> None:
        """Remove every part: the folder now belongs to another job."""
        for path in self.folder.iterdir():
            path.unlink()


def read_any(path: Path) -> PackedTable:
    """Read a packed set of whatever kind it says it is.

    :raises BadInput: if it cannot be read or is of no known kind.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path.name}; check the path.") from None
    except (OSError, ValueError, NotImplementedError) as error:
        raise BadInput(
            f"{path.name} cannot be read as Parquet ({str(error).splitlines()[0]}); it is truncated or corrupt."
        ) from error
    kind = (table.schema.metadata or {}).get(b"kind", b"").decode()
    if kind not in CLASSES:
        raise BadInput(f"{path.name} is a set of kind {kind!r}; known kinds are {', '.join(CLASSES)}.")
    return CLASSES[kind](table)


def write_packed(path: Path, packed: PackedTable) -> None:
    """Write a packed set as Parquet, on the disk before it gets its name."""
    write_whole(path, lambda temporary: pq.write_table(packed.arrow, temporary, compression="zstd"))


def _unit(line: dict[str, Any]) -> tuple[str, int, int]:
    return str(line.get("stage")), int(line.get("start", -1)), int(line.get("stop", -1))
