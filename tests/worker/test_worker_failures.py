"""Whatever goes wrong has its own exit code and a sentence, and never a half-written file under a final name."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import Jobs, lines

from crysgen_aiida.crystals.errors import BadInput, CorruptWeights, CrysgenError
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.worker.failures import StopNow, classify
from crysgen_aiida.worker.parts import read_any


def truncated(folder: Path) -> None:
    path = folder / "inputs" / "crystals.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def wrong_kind(folder: Path) -> None:
    import pyarrow as pa

    SequenceSet(pa.table({"sequence": ["x"]})).write(folder / "inputs" / "crystals.parquet")


def gone(folder: Path) -> None:
    (folder / "inputs" / "crystals.parquet").unlink()


def emptied(folder: Path) -> None:
    path = folder / "inputs" / "crystals.parquet"
    read_any(path).take([]).write(path)


def all_failed(folder: Path) -> None:
    from crysgen_aiida.crystals.crystal_set import CrystalSet

    CrystalSet.from_structures([None, None], reasons=["no cell", "no cell"]).write(
        folder / "inputs" / "crystals.parquet"
    )


def nothing(folder: Path) -> None:
    """Leave the inputs as they are."""


@pytest.mark.parametrize(
    ("spoil", "changes", "code", "said"),
    [
        (truncated, {}, 310, "truncated"),
        (wrong_kind, {}, 310, "of kind 'sequences'"),
        (gone, {}, 310, "no file crystals.parquet"),
        (emptied, {}, 312, "empty set"),
        (all_failed, {}, 312, "no cell"),
        (nothing, {"sede": 1}, 302, "did you mean 'seed'"),
        (nothing, {"resources": {"device": "cuda"}}, 314, "torch sees none"),
        (nothing, {"generator": {"name": "toyy"}}, 314, "Did you mean toy"),
        (nothing, {"generator": {"name": "toy", "spec": {"stepz": 3}}}, 311, "did you mean steps"),
        (nothing, {"generator": {"name": "toy", "version": "0"}}, 302, "written for version 0"),
        (nothing, {"generator": {"name": "toy", "preset": "huge"}}, 311, "no preset 'huge'"),
        (nothing, {"generator": {"name": "toy", "spec": {"steps": "many"}}}, 310, "must be int"),
        (nothing, {"generator": {"name": "toy", "spec": {"fail": "CUDA out of memory. Tried"}}}, 321, "batch_scale"),
        (nothing, {"generator": {"name": "toy", "spec": {"fail": "surprise"}}}, 340, "RuntimeError: surprise"),
    ],
)
def test_mistakes_have_their_code_and_a_sentence(
    jobs: Jobs, salt: Any, spoil: Any, changes: dict[str, Any], code: int, said: str
) -> None:
    """The result names the mistake and what to do; nothing is written as an output."""
    folder = jobs.make("bad", "prepare", {"crystals": salt})
    spoil(folder)
    jobs.edit(folder, **changes)
    result = jobs.run(folder, "prepare")
    assert result["exit_code"] == code, result["message"]
    assert said in result["message"]
    assert result["message"].endswith((".", "?"))
    assert result["outputs"] == {}
    assert not list((folder / "outputs").glob("*")) if (folder / "outputs").exists() else True


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"parameters": {"n": 0}}, 302, "at least one"),
        ({"parameters": {}}, 302, "needs the parameter 'n'"),
        ({"parameters": {"n": 2, "conditions": {"band_gp": 1.0}}}, 311, "Did you mean band_gap"),
        ({"parameters": {"n": 2, "conditions": {"piezo_max": 1.0}}}, 311, "can on band_gap"),
    ],
)
def test_impossible_samples(jobs: Jobs, trained: Path, changes: dict[str, Any], code: int, said: str) -> None:
    """Targets a generator cannot serve are refused with what it can."""
    result = jobs.run(jobs.make("bad", "sample", {"generator": trained}, **changes))
    assert (result["exit_code"], said in result["message"]) == (code, True), result["message"]


@pytest.mark.parametrize("spoil", ["truncate", "garbage", "remove", "header"])
def test_corrupt_weights_are_313(jobs: Jobs, trained: Path, spoil: str) -> None:
    """Weights that are cut, overwritten or gone are never handed to a generator."""
    folder = jobs.make("bad", "sample", {"generator": trained}, parameters={"n": 2})
    weights = folder / "inputs" / "generator" / "weights.safetensors"
    whole = weights.read_bytes()
    if spoil == "remove":
        weights.unlink()
    else:
        weights.write_bytes({"truncate": whole[:-3], "garbage": b"\x80\x04PK" * 20, "header": whole[:8]}[spoil])
    result = jobs.run(folder)
    assert result["exit_code"] == 313, result["message"]


def test_a_job_that_is_not_json_is_302(jobs: Jobs, salt: Any) -> None:
    """Even a job that cannot be read ends with a result that says so."""
    folder = jobs.make("bad", "prepare", {"crystals": salt})
    (folder / "job.json").write_text('{"verb": "prepare"')
    result = jobs.run(folder, "prepare")
    assert result["exit_code"] == 302
    assert "not valid JSON" in result["message"]


def test_an_unexpected_failure_keeps_its_traceback(jobs: Jobs, salt: Any) -> None:
    """The log holds the traceback, the result a sentence."""
    generator = {"name": "toy", "spec": {"fail": "surprise"}}
    result = jobs.run(jobs.make("bad", "prepare", {"crystals": salt}, generator=generator))
    assert "Traceback" in result["log"]
    assert "crysgen_toy.py" in result["log"]
    assert "Traceback" not in result["message"]


def test_out_of_memory_is_321_and_a_smaller_batch_succeeds(jobs: Jobs, trained: Path) -> None:
    """Under a real limit on memory; parts finished before are reused whatever the batch."""
    limit = 3 * 2**30
    options = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))}
    generator = {"name": "toy", "spec": {"megabytes": 4000.0}}
    folder = jobs.make("hungry", "sample", {"generator": trained}, parameters={"n": 6}, generator=generator)
    result = jobs.run(folder, **options)
    assert result["exit_code"] == 321, result["message"]
    assert "batch_scale" in result["message"]
    jobs.edit(folder, resources={"batch_scale": 0.25})
    assert jobs.run(folder, **options)["exit_code"] == 0


def test_a_limit_on_file_sizes_is_322(jobs: Jobs, trained: Path) -> None:
    """RLIMIT_FSIZE: no file is left half-written under a final name, and the job resumes without the limit."""
    options = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))}
    generator = {"name": "toy", "spec": {"padding": 12_000}}
    folder = jobs.make("fat", "sample", {"generator": trained}, parameters={"n": 10}, generator=generator)
    result = jobs.run(folder, **options)
    assert result["exit_code"] == 322, result["message"]
    assert_whole(folder)
    assert jobs.run(folder)["exit_code"] == 0


def test_a_full_disk_is_322_and_resumes_once_there_is_space(jobs: Jobs, trained: Path, tmp_path: Path) -> None:
    """A real full disk: the result is still written, finished parts are whole and used by the next start."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("Mounting a small tmpfs needs root.")
    try:
        generator = {"name": "toy", "spec": {"padding": 30_000, "rows_per_part": 2}}
        made = jobs.make("job", "sample", {"generator": trained}, parameters={"n": 60}, generator=generator)
        folder = Path(shutil.copytree(made, disk / "job"))
        with (folder / "log").open("w") as log:  # the log is on the full disk as well, as under AiiDA
            process = jobs.start(folder, stderr=log, stdout=log)
            process.wait(timeout=60)
        assert process.returncode == 322 - 256
        result = json.loads((folder / "result.json").read_text())
        assert result["exit_code"] == 322
        assert "free some space" in result["message"]
        finished = assert_whole(folder)
        assert finished >= 2
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        again = jobs.run(folder)
        assert again["exit_code"] == 0
        assert again["units"]["reused"] == finished
    finally:
        subprocess.run(["umount", disk], check=True)


def assert_whole(folder: Path) -> int:
    """Assert that every file under a final name can be read, and return the number of finished parts."""
    assert not list((folder / "outputs").glob("*")) if (folder / "outputs").exists() else True
    assert not list(folder.rglob("*.tmp"))
    parts = list((folder / "parts").glob("*.parquet"))
    assert all(len(read_any(part)) for part in parts)
    assert len(lines(folder / "journal.jsonl")) == len(parts)
    return len(parts)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 322),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 322),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 322),
        (MemoryError(), 321),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 321),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), 321),
        (ImportError("libfoo.so: failed to map segment from shared object: Cannot allocate memory"), 321),
        (KeyboardInterrupt(), 320),
        (StopNow("the signal SIGTERM"), 320),
        (CorruptWeights("They are corrupt."), 313),
        (BadInput("The text says out of memory."), 310),
        (ValueError("the file is called out of memory"), 340),
        (ZeroDivisionError("division by zero"), 340),
    ],
)
def test_every_failure_has_one_class(error: BaseException, code: int) -> None:
    """Errors of libraries are read for their remedy; our own and the user's words are not."""
    assert classify(error).exit_code == code


def test_the_first_cause_decides() -> None:
    """A full disk or exhausted memory wrapped in another error stays what it is."""
    wrapped = CrysgenError("The generator could not be loaded.")
    wrapped.__cause__ = MemoryError("no")
    assert classify(wrapped).exit_code == 321
