"""Write what a verb returned under its final names."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import CorruptWeights, CrysgenError
from crysgen_aiida.crystals.hashing import folder_hash
from crysgen_aiida.crystals.table import PackedTable
from crysgen_aiida.worker.folder import OUTPUTS, remove_tree, sync
from crysgen_aiida.worker.inputs import GENERATOR_FILES, WEIGHTS, check_weights
from crysgen_aiida.worker.parts import write_packed

#: Reasons are counted one by one up to this many, the rest together.
_MAX_REASONS = 30


def write_outputs(folder: Path, outputs: Mapping[str, PackedTable | Path]) -> dict[str, dict[str, Any]]:
    """Write every output and return its entry in the result: path, content hash and number of rows."""
    (folder / OUTPUTS).mkdir(exist_ok=True)
    return {label: _write(folder, label, output) for label, output in sorted(outputs.items())}


def _write(folder: Path, label: str, output: PackedTable | Path) -> dict[str, Any]:
    if isinstance(output, Path):
        target = folder / OUTPUTS / label
        _copy_generator(output, target)
        return {
            "path": f"{OUTPUTS}/{label}",
            "content_hash": folder_hash(target, GENERATOR_FILES),
            "files": list(GENERATOR_FILES),
        }
    path = folder / OUTPUTS / f"{label}.parquet"
    write_packed(path, output)
    return {"path": f"{OUTPUTS}/{label}.parquet", "content_hash": output.content_hash, "rows": len(output)}


def _copy_generator(source: Path, target: Path) -> None:
    missing = [name for name in GENERATOR_FILES if not (source / name).is_file()]
    if missing:
        raise CrysgenError(
            f"The generator was trained but wrote no {', '.join(missing)}; that is an error in its code."
        )
    temporary = target.with_name(f".{target.name}.tmp")
    remove_tree(temporary)
    temporary.mkdir()
    for name in GENERATOR_FILES:
        shutil.copyfile(source / name, temporary / name)
        sync(temporary / name)
    try:
        check_weights(temporary / WEIGHTS, target.name)
    except CorruptWeights as error:
        raise CrysgenError(f"The generator was trained but its weights are not whole: {error}") from error
    remove_tree(target)
    temporary.replace(target)
    sync(target.parent)


def count_rows(output: PackedTable | Path | None) -> dict[str, Any]:
    """Return the number of rows by status, and of those not ok by reason."""
    if not isinstance(output, PackedTable):
        return {}
    by_status = Counter(output.column("status"))
    counts: dict[str, Any] = {status: by_status.get(status, 0) for status in schema.STATUSES}
    reasons = Counter(reason for reason in output.column("reason") if reason)
    listed = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_MAX_REASONS])
    rest = reasons.total() - sum(listed.values())
    if rest:
        listed["other"] = listed.get("other", 0) + rest
    counts["reasons"] = listed
    return counts
