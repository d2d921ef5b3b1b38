"""The worker finds the GPU by itself, says which, and records the memory it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import SequenceSet

GENERATOR = {
    "name": "ftcp",
    "preset": "test",
    "spec": {"data": {"targets": ["formation_energy_per_atom"]}, "training": {"epochs": 3}},
}


def do(folder: Path, verb: str, inputs: dict[str, Path], **job: Any) -> dict[str, Any]:
    """Do a job in a worker process of its own and return its result."""
    (folder / "inputs").mkdir(parents=True)
    for name, source in inputs.items():
        (folder / "inputs" / name).symlink_to(source)
    held = {
        "job_schema": 1, "worker_api": "1", "verb": verb, "seed": 7, "generator": GENERATOR,
        "resources": {"device": "auto"}, "inputs": {name: f"inputs/{name}" for name in inputs}, **job,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(held))
    command = [sys.executable, "-m", "crysgen_aiida.worker.main", verb, str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result["exit_code"] == 0, result["message"] + done.stderr
    return result


def test_a_line_of_jobs(tmp_path: Path, crystals: CrystalSet) -> None:
    crystals.write(tmp_path / "crystals.parquet")
    do(tmp_path / "prepare", "prepare", {"crystals": tmp_path / "crystals.parquet"})
    made = tmp_path / "prepare" / "outputs" / "training_set.parquet"
    trained = do(tmp_path / "train", "train", {"training_set": made})
    assert trained["device"] == "cuda"
    assert trained["device_name"] == torch.cuda.get_device_name(0)
    assert trained["peak_gpu_memory_mb"] > 1
    generator = tmp_path / "train" / "outputs" / "generator"
    sampled = do(tmp_path / "sample", "sample", {"generator": generator}, parameters={"n": 20})
    assert sampled["device"] == "cuda"
    assert len(SequenceSet.read(tmp_path / "sample" / "outputs" / "sequences.parquet")) == 20
