"""The command itself: light, readable, and honest about the folder it is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worker_jobs import Jobs

from crysgen_aiida.crystals.errors import BadJob
from crysgen_aiida.worker.folder import append_line, mend_lines, read_lines
from crysgen_aiida.worker.job import parse_job

HEAVY = ("torch", "numpy", "pyarrow", "pymatgen", "chgnet", "aiida", "scipy")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "crysgen_aiida.worker.main", *arguments], capture_output=True, text=True, timeout=60
    )


def test_help_imports_nothing_heavy() -> None:
    """--help answers at once: no torch, no numpy, no pymatgen, no aiida."""
    code = (
        "import sys\nfrom crysgen_aiida.worker.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "crysgen-worker" in done.stdout


def test_a_job_imports_no_torch_it_does_not_need(jobs: Jobs, trained: Path) -> None:
    """The door itself needs no torch: a generator without it works where torch is not installed."""
    blocker = jobs.root / "blocked"
    blocker.mkdir()
    (blocker / "torch.py").write_text("raise ImportError('there is no torch here')")
    path = f"{blocker}:{jobs.environment['PYTHONPATH']}"
    result = jobs.run(jobs.make("job", "sample", {"generator": trained}, parameters={"n": 2}), env={"PYTHONPATH": path})
    assert result["exit_code"] == 0
    assert result["device"] == "cpu"


def test_a_missing_job_is_a_sentence() -> None:
    """No traceback, no file written anywhere."""
    done = command("sample", "/nowhere/job.json")
    assert done.returncode == 302 - 256
    assert "There is no job description" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_result_says_what_did_it(jobs: Jobs, salt: Any) -> None:
    """Versions, seed, device, threads, counts by status and reason, timings, memory; and no host name."""
    import platform

    folder = jobs.make("job", "prepare", {"crystals": salt}, resources={"threads": 2})
    result = jobs.run(folder)
    assert result["message"] == "prepare finished: 12 of 12 rows are ok."
    assert result["versions"]["generator toy"] == "1"
    assert {"crysgen-aiida", "python", "torch", "numpy"} <= set(result["versions"])
    assert (result["seed"], result["threads"], result["device"]) == (7, 2, "cpu")
    assert result["counts"]["ok"] == 12
    assert result["timings"]["total"] > 0
    assert result["peak_memory_mb"] > 10
    assert result["worker_api"] == "1"
    assert platform.node() not in (folder / "result.json").read_text()
    assert "time" not in (folder / "outputs" / "training_set.parquet").read_bytes().decode("latin1").lower()


def test_reasons_are_counted(jobs: Jobs, trained: Path) -> None:
    """A row that fails is counted under its reason, and its lineage is filled in for the generator."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet

    sampled = jobs.make("sampled", "sample", {"generator": trained}, parameters={"n": 40})
    jobs.run(sampled)
    folder = jobs.make("decoded", "decode", {"sequences": sampled / "outputs" / "sequences.parquet"})
    result = jobs.run(folder)
    crystals = CrystalSet.read(folder / "outputs" / "crystals.parquet")
    failed = result["counts"]["failed"]
    assert 0 < failed < 40
    assert result["counts"]["reasons"] == {"the edge is below 4.5 A": failed}
    assert set(crystals.column("parent_input")) == {"sequences"}
    assert crystals.column("parent_row") == list(range(40))


def test_status_and_verify(jobs: Jobs, trained: Path) -> None:
    """status says how far; verify finds every file that is not what the result says."""
    folder = jobs.make("job", "sample", {"generator": trained}, parameters={"n": 4})
    assert command("status", str(folder)).stdout.strip() == "not started"
    jobs.run(folder)
    assert "finished: sample finished" in command("status", str(folder)).stdout
    held = json.loads(command("status", str(folder), "--format", "json").stdout)
    assert held["stages"][-1]["done"] == 4
    assert command("status", str(folder), "--format", "csv").stdout.splitlines()[0].startswith("state,exit_code")
    assert command("verify", str(folder)).returncode == 0
    other = jobs.make("other", "sample", {"generator": trained}, parameters={"n": 4}, seed=8)
    jobs.run(other)
    (folder / "outputs/sequences.parquet").write_bytes((other / "outputs/sequences.parquet").read_bytes())
    (folder / "inputs/generator/config.json").write_text("{}")
    done = command("verify", str(folder), "--format", "json")
    assert done.returncode == 310 - 256
    wrong = {finding["what"] for finding in json.loads(done.stdout)["findings"] if not finding["as_stated"]}
    assert wrong == {"inputs", "output sequences"}


_VALID = {
    "verb": "sample",
    "inputs": {"generator": "inputs/generator"},
    "generator": {"name": "toy"},
    "parameters": {"n": 3},
    "seed": 1,
    "resources": {"threads": 1},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verb": "smaple"}, "did you mean 'sample'"),
        ({"worker_api": "0"}, "worker_api '0'"),
        ({"job_schema": 99}, "job_schema 99"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"inputs": {}}, "needs the input 'generator'"),
        ({"inputs": {"generator": "inputs/generator", "crystals": "x"}}, "no 'crystals'"),
        ({"inputs": {"generator": "/etc"}}, "inside the job's folder"),
        ({"inputs": {"generator": "../x"}}, "inside the job's folder"),
        ({"parent_folder": "/tmp"}, "inside the job's folder"),
        ({"parameters": {}}, "needs the parameter 'n'"),
        ({"parameters": {"n": "3"}}, "must be a whole number, not text"),
        ({"parameters": {"n": True}}, "not true or false"),
        ({"parameters": {"n": 3, "m": 4}}, "no 'm'"),
        ({"generator": None}, "needs a generator"),
        ({"generator": {"name": "toy", "specs": {}}}, "did you mean 'spec'"),
        ({"resources": {"threds": 3}}, "did you mean 'threads'"),
        ({"resources": {"threads": 0}}, "from 1 to"),
        ({"resources": {"max_wallclock_seconds": 9}}, "could do nothing"),
        ({"resources": {"device": "tpu"}}, "auto, cpu, cuda"),
        ({"resources": {"batch_scale": 0}}, "more than 0"),
        ({"resources": {"gpu_slots": {"directory": "x"}}}, "count must be"),
        ({"resources": {"gpu_slots": {"directory": "x", "count": 1, "take": 2}}}, "take must be"),
    ],
)
def test_a_wrong_job_says_what_to_write(changes: dict[str, Any], said: str) -> None:
    """Every mistake in a job is named with its remedy."""
    with pytest.raises(BadJob) as caught:
        parse_job({**_VALID, **changes}, "sample")
    assert said in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("job_schema", "worker_api", "verb", "inputs", "generator", "parameters", "seed", "resources", "parent_folder")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=3))
def test_any_job_is_read_or_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    """Whatever JSON is in a job, the answer is a job or a BadJob: never another exception."""
    try:
        job = parse_job({**_VALID, **changes})
    except BadJob as error:
        sentence = str(error)
    else:
        sentence = "It was read."
        assert job.verb.name == "sample"
        assert all(not Path(p).is_absolute() for p in job.inputs.values() if isinstance(p, Path))
    assert sentence.endswith((".", "?"))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3), max_size=5), st.integers(0, 60))
def test_a_line_cut_short_loses_only_itself(tmp_path_factory: Any, held: list[dict[str, int]], cut: int) -> None:
    """After a power failure in the middle of a line, the lines before it stay and the next one stands alone."""
    path = tmp_path_factory.mktemp("lines") / "journal.jsonl"
    for line in held:
        append_line(path, line, durable=False)
    whole = path.read_bytes() if path.exists() else b""
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    left = whole[: max(0, len(whole) - cut)].count(b"\n")
    mend_lines(path)
    append_line(path, {"next": 1})
    assert read_lines(path) == [*held[:left], {"next": 1}]
