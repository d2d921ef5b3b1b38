"""Bring a worker folder that was run out of AiiDA's reach into the graph: hashes checked, marked as imported."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.engine import CalcJobImporter, run_get_node

from crysgen_aiida.calculations.base import (
    JOB_FILE,
    JOURNAL_FILE,
    LOG_FILE,
    OUTPUT_FOLDER,
    PROGRESS_FILE,
    RESULT_FILE,
    WorkerCalculation,
)
from crysgen_aiida.calculations.parser import read_output
from crysgen_aiida.calculations.verbs import BY_VERB
from crysgen_aiida.calculations.versions import WORKER_API
from crysgen_aiida.crystals.errors import BadInput, BadJob
from crysgen_aiida.crystals.hashing import json_hash
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import PackedData

#: Imported runs have a computer of their own, which runs nothing: where they ran is in ``result.json``.
COMPUTER = "crysgen-imported"

#: Extra of an imported job: the machine's account of itself, and the hash of the job.
EXTRA = "crysgen_imported"


class WorkerCalculationImporter(CalcJobImporter):
    """Make the input nodes of a job from a worker folder; sets already in the profile are used, not copied."""

    @staticmethod
    def parse_remote_data(remote_data: orm.RemoteData, **kwargs: Any) -> dict[str, Any]:
        """Return the inputs of the job in the folder ``remote_data`` points at, which must be on this machine."""
        return read_inputs(Path(remote_data.get_remote_path()))


def import_run(folder: str | Path) -> orm.CalcJobNode:
    """Import a finished worker folder and return its node, marked imported.

    A folder imported before is not imported again: the node made then is returned.

    :raises BadJob: if the folder holds no finished run, or ``job.json`` was edited after it.
    :raises BadInput: if an input or output is corrupt or is not what its hash says.
    """
    folder = Path(folder)
    job, result = read_run(folder)
    process_class = BY_VERB[job["verb"]]
    check_outputs(folder, result, process_class)
    inputs = read_inputs(folder)
    held = find_import(str(result["job_hash"]), result["outputs"])
    if held is not None:
        return held
    # the graph keeps a neutral path, never that of somebody's home
    neutral = Path("/tmp")
    staged = Path(tempfile.mkdtemp(prefix="crysgen-imported-", dir=neutral if neutral.is_dir() else None))
    try:
        for name in (RESULT_FILE, JOURNAL_FILE, PROGRESS_FILE, LOG_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staged / name)
        shutil.copytree(folder / OUTPUT_FOLDER, staged / OUTPUT_FOLDER)
        remote = orm.RemoteData(computer=import_computer(), remote_path=str(staged)).store()
        inputs["remote_folder"] = remote
        inputs["metadata"] = {"computer": remote.computer, "disable_cache": True}
        node = cast(orm.CalcJobNode, run_get_node(process_class, **inputs)[1])
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    remote.base.extras.set(remote.KEY_EXTRA_CLEANED, True)
    if not node.is_finished_ok:
        raise BadInput(f"The import ended with [{node.exit_status}] {node.exit_message}")
    account = {k: result.get(k) for k in ("versions", "device", "device_name", "threads", "timings")}
    node.base.extras.set(
        EXTRA, {"job_hash": result["job_hash"], "outputs": _hashes(result["outputs"]), "account": account}
    )
    return node


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``job.json`` and ``result.json`` of a finished run.

    :raises BadJob: if one is missing, the run did not finish, or they do not belong together.
    """
    job, result = _load(folder / JOB_FILE), _load(folder / RESULT_FILE)
    if job.get("verb") not in BY_VERB:
        raise BadJob(f"{JOB_FILE} has the verb {job.get('verb')!r}; known are {', '.join(BY_VERB)}.")
    if result.get("exit_code") != 0:
        raise BadJob(
            f"The run in {folder.name} ended with exit code {result.get('exit_code')}: {result.get('message')} "
            "Only finished runs are imported; start the worker there again."
        )
    if str(result.get("worker_api")) != WORKER_API:
        raise BadJob(
            f"The run was made by worker_api {result.get('worker_api')!r}, this crysgen-aiida is {WORKER_API!r}; "
            "import it with the version it was made with."
        )
    described = json_hash({k: v for k, v in job.items() if k not in ("resources", "parent_folder")})
    if result.get("description_hash") != described:
        raise BadJob(f"{JOB_FILE} is not the job that {RESULT_FILE} tells of; it was edited after the run.")
    return job, result


def read_inputs(folder: Path) -> dict[str, Any]:
    """Return the inputs of the calculation that the run in ``folder`` amounts to.

    :raises BadInput: if an input is corrupt, or is not the one the worker read.
    """
    job, result = read_run(folder)
    process_class = BY_VERB[job["verb"]]
    inputs: dict[str, Any] = {
        "parameters": orm.Dict(job.get("parameters") or {}),
        "seed": orm.Int(job.get("seed", 0)),
        "worker_api": orm.Str(job.get("worker_api", WORKER_API)),
    }
    kinds = {**process_class.SETS, **process_class.OPTIONAL_SETS}
    stated = result.get("inputs", {})
    for label, path in job["inputs"].items():
        if isinstance(path, Mapping):
            node_class = process_class.NAMESPACES[label]
            inputs[label] = {
                k: _node(folder / p, node_class, f"{label}.{k}", stated[label][k]) for k, p in path.items()
            }
        else:
            inputs[label] = _node(folder / path, kinds[label], label, stated[label])
    generator = job.get("generator") or {}
    if process_class.NAMES_GENERATOR:
        inputs["generator_name"] = orm.Str(generator["name"])
    if generator.get("spec"):
        inputs["spec"] = orm.Dict(generator["spec"])
    if generator.get("preset"):
        inputs["preset"] = orm.Str(generator["preset"])
    return inputs


def check_outputs(folder: Path, result: Mapping[str, Any], process_class: type[WorkerCalculation]) -> None:
    """Refuse outputs that are missing, corrupt or not what their hash says.

    :raises BadInput: naming the first.
    """
    for label, node_class in process_class.OUTPUTS.items():
        node = read_output(folder / OUTPUT_FOLDER, label, node_class)
        stated = result.get("outputs", {}).get(label, {}).get("content_hash")
        if node is None or stated != node.content_hash:
            what = "is missing" if node is None else "is not what its hash in result.json says"
            raise BadInput(f"The output {label} of {folder.name} {what}; copy the folder again.")


def find_import(job_hash: str, outputs: Mapping[str, Any]) -> orm.CalcJobNode | None:
    """Return the node an equal run was imported as, if it was."""
    query = orm.QueryBuilder().append(
        orm.CalcJobNode,
        filters={f"extras.{EXTRA}.job_hash": job_hash, "attributes.exit_status": 0},
    )
    same = [n for n in query.all(flat=True) if n.base.extras.get(EXTRA)["outputs"] == _hashes(outputs)]
    return same[0] if same else None


def import_computer() -> orm.Computer:
    """Return the computer of imported runs, made if need be."""
    try:
        return orm.load_computer(COMPUTER)
    except NotExistent:
        computer = orm.Computer(
            label=COMPUTER,
            hostname="localhost",
            description="Stands for machines out of reach; it runs nothing",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(Path(tempfile.gettempdir()) / "crysgen-imported"),
        ).store()
        computer.configure()
        return computer


def _node(path: Path, node_class: type[orm.Data], label: str, stated: str) -> orm.Data:
    if issubclass(node_class, GeneratorData):
        generator = node_class(path)
        _refuse_stranger(label, path, stated, generator.content_hash)
        return node_class.get_or_create(path)
    assert issubclass(node_class, PackedData)
    table = node_class.TABLE_CLASS.read(path)
    _refuse_stranger(label, path, stated, table.content_hash)
    return cast(orm.Data, node_class.get_or_create(table))


def _refuse_stranger(label: str, path: Path, stated: str, found: str) -> None:
    if found != stated:
        raise BadInput(f"The input {label} ({path.name}) is not the one the worker read; copy the folder again.")


def _hashes(outputs: Mapping[str, Any]) -> dict[str, str]:
    return {label: str(entry["content_hash"]) for label, entry in outputs.items()}


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadJob(
            f"There is no {path.name} in {path.parent.name}; give the folder of a finished `crysgen-worker` run."
        ) from None
    except ValueError as error:
        raise BadJob(f"{path.name} is not JSON ({error}); copy the folder again.") from None
    if not isinstance(value, dict):
        raise BadJob(f"{path.name} must hold a JSON object.")
    return value
