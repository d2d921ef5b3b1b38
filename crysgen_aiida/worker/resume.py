"""Decide which finished parts belong to this job, and take over those of a parent folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crysgen_aiida.worker.folder import (
    JOURNAL,
    ORIGIN,
    OUTPUTS,
    PARTS,
    PROGRESS,
    STATE,
    files_in,
    read_json,
    read_lines,
    remove_tree,
    sync,
    write_json,
    write_whole,
)
from crysgen_aiida.worker.parts import Journal, PartStore

Warn = Callable[[str], None]


def settle(
    folder: Path, identity: dict[str, Any], parent: Path | None, journal: Journal, parts: PartStore, warn: Warn
) -> None:
    """Make the folder's parts and state those of this job, then take over the parent's.

    :param identity: hash of the job and versions of the code; parts are kept only where it is the same.
    :param parent: folder of the run that was broken off, as copied in, or None.
    """
    held = read_json(folder / ORIGIN)
    if held != identity:
        if _has_work(folder):
            why = _difference(held, identity)
            warn(f"The folder held the parts of another job ({why}); they were removed and the work starts over.")
        parts.clear()
        journal.clear()
        for name in (STATE, OUTPUTS):
            remove_tree(folder / name)
        (folder / PROGRESS).unlink(missing_ok=True)
        write_json(folder / ORIGIN, identity)
    if parent is not None:
        _take_over(folder, identity, parent, journal, warn)
    (folder / STATE).mkdir(exist_ok=True)


def _take_over(folder: Path, identity: dict[str, Any], parent: Path, journal: Journal, warn: Warn) -> None:
    held = read_json(parent / ORIGIN)
    if held is None:
        warn("The parent folder holds no finished work (it was probably cleaned); the work starts over.")
        return
    if held != identity:
        warn(f"The parent folder holds another job ({_difference(held, identity)}); the work starts over.")
        return
    # parts first, their lines after: as when they were made
    for path in sorted((parent / PARTS).glob("*.parquet")):
        own = folder / PARTS / path.name
        if not own.exists():
            write_whole(own, lambda temporary, source=path: _copy(source, temporary))  # type: ignore[misc]
    for line in read_lines(parent / JOURNAL):
        stage, start, stop = str(line.pop("stage")), int(line.pop("start")), int(line.pop("stop"))
        line.pop("from_parent", None)
        known = (stage, start, stop) in journal
        if not known and (folder / PARTS / f"{stage}-{start}-{stop}.parquet").exists():
            journal.add(stage, start, stop, content_hash=line.pop("content_hash", None), from_parent=True, **line)
    _take_state(parent / STATE, folder / STATE)


def _take_state(source: Path, target: Path) -> None:
    """Copy the state as one: either all of it is there under its name, or none."""
    if not source.is_dir() or (target.is_dir() and any(target.iterdir())):
        return
    temporary = target.with_name(f".{target.name}.tmp")
    remove_tree(temporary)
    shutil.copytree(source, temporary)
    for path in files_in(temporary):
        sync(path)
    temporary.replace(target)
    sync(target.parent)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _has_work(folder: Path) -> bool:
    return any(any((folder / name).iterdir()) for name in (PARTS, STATE) if (folder / name).is_dir())


def _difference(held: dict[str, Any] | None, identity: dict[str, Any]) -> str:
    if held is None:
        return "it does not say which"
    changed = [key for key in identity if held.get(key) != identity[key]]
    names = {"job_hash": "inputs, generator, parameters or seed differ", "code": "another version of the code"}
    return " and ".join(names.get(key, key) for key in changed) or "it was written by another version"
