"""Say how far the job in a folder is, and whether a finished one is what its result says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals.errors import BadInput, BadJob, CrysgenError
from crysgen_aiida.crystals.hashing import folder_hash
from crysgen_aiida.worker.folder import PROGRESS, RESULT, is_locked, read_json, read_lines
from crysgen_aiida.worker.inputs import description_hash, job_hash, read_inputs
from crysgen_aiida.worker.job import load_job, parse_job
from crysgen_aiida.worker.parts import read_any

Row = dict[str, Any]


def status(folder: Path, layout: str) -> tuple[str, int]:
    """Return the state of the job in ``folder`` as text, and 0.

    :raises BadJob: if there is no job there.
    """
    if not (folder / "job.json").is_file():
        raise BadJob(f"There is no job.json in {folder}; give the folder of a job.")
    stages: dict[str, Row] = {}
    for line in read_lines(folder / PROGRESS):
        stages[str(line.get("stage"))] = line
    result = read_json(folder / RESULT)
    running = is_locked(folder)
    if result is not None:
        state, message = ("finished" if result.get("exit_code") == 0 else "failed"), str(result.get("message"))
    elif running:
        last = list(stages.values())[-1] if stages else {}
        waiting = last.get("stage") == "waiting"
        state, message = ("waiting", f"waits for a {last.get('for')}") if waiting else ("running", "")
    else:
        state, message = ("killed", "it left no result; start it again to continue") if stages else ("not started", "")
    head = {"state": state, "exit_code": (result or {}).get("exit_code"), "message": message}
    stages.pop("waiting", None)
    rows = [{key: line.get(key) for key in ("stage", "done", "total", "rate")} for line in stages.values()]
    if layout == "json":
        return json.dumps({**head, "stages": list(stages.values()), "result": result}, indent=1), 0
    if layout == "csv":
        return _csv([{**head, **row} for row in rows] or [head]), 0
    code = "" if head["exit_code"] in (None, 0) else f" ({head['exit_code']})"
    lines = [f"{state}{code}: {message}" if message else state]
    lines += [f"  {r['stage']:<24} {r['done']:>8} / {r['total']:<8} {_rate(r['rate'])}" for r in rows]
    return "\n".join(lines), 0


def verify(folder: Path, layout: str) -> tuple[str, int]:
    """Compare inputs, job and outputs with the hashes in the result; return the findings and an exit code.

    The code is 0 if everything is as the result says, else that of a bad input.

    :raises BadInput: if there is no result to compare with.
    """
    result = read_json(folder / RESULT)
    if result is None:
        raise BadInput(f"There is no whole {RESULT} in {folder}; the job has not ended there.")
    rows = _verify_job(folder, result) + [
        _finding(f"output {label}", entry.get("content_hash"), lambda e=entry: _hash_of(folder, e))
        for label, entry in sorted((result.get("outputs") or {}).items())
    ]
    code = 0 if all(row["as_stated"] for row in rows) else BadInput.exit_code
    if layout == "json":
        return json.dumps({"as_stated": code == 0, "findings": rows}, indent=1), code
    if layout == "csv":
        return _csv(rows), code
    lines = [
        f"{'as stated' if row['as_stated'] else 'DIFFERENT':<10} {row['what']} {row['note']}".rstrip() for row in rows
    ]
    return "\n".join(lines), code


def _verify_job(folder: Path, result: dict[str, Any]) -> list[Row]:
    try:
        held = load_job(folder / "job.json")
        job = parse_job(held)
    except BadJob as error:
        return [{"what": "job.json", "as_stated": False, "note": str(error)}]
    rows = [_finding("job.json", result.get("description_hash"), lambda: description_hash(held))]
    rows.append(_finding("inputs", result.get("job_hash"), lambda: job_hash(job, read_inputs(job, folder).hashes)))
    return rows


def _finding(what: str, stated: Any, compute: Any) -> Row:
    try:
        found = compute()
    except (CrysgenError, OSError) as error:
        return {"what": what, "as_stated": False, "note": str(error)}
    same = found == stated
    return {"what": what, "as_stated": same, "note": "" if same else f"stated {stated}, found {found}"}


def _hash_of(folder: Path, entry: dict[str, Any]) -> str:
    path = folder / str(entry["path"])
    if "files" in entry:
        return folder_hash(path, [str(name) for name in entry["files"]])
    return read_any(path).content_hash


def _csv(rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().rstrip("\n")


def _rate(rate: Any) -> str:
    return f"{rate:.3g}/s" if isinstance(rate, int | float) else ""
