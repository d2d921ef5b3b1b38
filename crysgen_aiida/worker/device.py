"""Threads and device, settled before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from crysgen_aiida.crystals.errors import NotInstalled

# the numerical libraries read these once, when they are loaded
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


def set_environment(environment: MutableMapping[str, str], threads: int) -> bool:
    """Set the number of threads and a fixed hash seed; return whether anything changed.

    The hash seed is fixed because the order of a set of strings depends on it, and results must not.
    """
    wanted = {name: str(threads) for name in _THREAD_VARIABLES} | {"PYTHONHASHSEED": "0"}
    changed = any(environment.get(name) != value for name, value in wanted.items())
    environment.update(wanted)
    return changed


def choose_device(requested: str) -> str:
    """Return ``cpu`` or ``cuda``. Torch is imported only where there can be a GPU.

    :raises NotInstalled: if a GPU is asked for and none can be used.
    """
    if requested == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # libraries that choose by themselves choose the same
        return "cpu"
    if requested == "auto" and not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "cpu"
    try:
        import torch

        usable = torch.cuda.is_available()
    except ImportError as error:
        if requested == "auto":
            return "cpu"
        raise NotInstalled(f"A GPU was asked for but torch cannot be imported here ({error}); install it.") from error
    if usable:
        return "cuda"
    if requested == "auto":
        return "cpu"
    raise NotInstalled(
        "A GPU was asked for but torch sees none here: check the driver, CUDA_VISIBLE_DEVICES and that torch is a CUDA "
        "build, or ask for the device auto."
    )


def device_name(device: str) -> str:
    """Return a readable name of the processor or GPU; never the host's."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name(0))
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.machine()
