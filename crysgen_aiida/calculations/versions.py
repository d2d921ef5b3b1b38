"""What of the code decides a result, as values for the cache hash: AiiDA itself leaves package versions out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals.errors import NotInstalled
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.physics.nequix_weights import checkpoint_path

#: The worker's behaviour that the calculations here were written for; equal to the worker's own number.
WORKER_API = "1"

#: Packages of the potentials that are not named as their potential is, and what files of weights end with.
_PACKAGES = {
    "sevennet": "sevenn",
    "sevennet-0": "sevenn",
    "nequix": "e3nn",
    "mace": "mace-torch",
    "orb": "orb-models",
    "orb-direct": "orb-models",
}
_WEIGHTS = (".pth", ".pth.tar", ".pt", ".model", ".safetensors", ".ckpt")


#: Version of what is not installed on this machine, but may be on the worker's.
UNKNOWN = "unknown"


def code_versions(generator: str | None, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that join the cache hash of one job: the generator's code, the potential's checkpoint."""
    versions: dict[str, str] = {}
    if generator is not None:
        versions["generator"] = f"{generator} {generator_version(generator)}"
    potential = parameters.get("potential")
    if isinstance(potential, Mapping) and "name" in potential:
        versions["potential"] = f"{potential['name']} {potential_version(str(potential['name']))}"
    return versions


def generator_version(name: str) -> str:
    """Return the version of an installed generator's code; ``UNKNOWN`` where only the worker's machine has it."""
    try:
        return get_generator(name).version
    except NotInstalled:
        return UNKNOWN


def fingerprint_version() -> dict[str, str]:
    """Return the version of the package that makes fingerprints, as it joins the cache hash."""
    return {"fingerprints": f"matminer {package_version('matminer')['matminer']}"}


def package_version(name: str) -> dict[str, str]:
    """Return the version of a package by its name; ``UNKNOWN`` where only the worker's machine has it."""
    try:
        return {name: distribution(name).version}
    except PackageNotFoundError:
        return {name: UNKNOWN}


@lru_cache(maxsize=16)
def potential_version(name: str) -> str:
    """Return what identifies a potential: the version of its package and a hash of the weights shipped in it.

    The files are found through the package's own record, because importing a potential would load its framework.
    Weights that come apart from any package are found where the potential looks for them.
    """
    try:
        package = distribution(_PACKAGES.get(name, name))
        apart = checkpoint_path() if name == "nequix" else None
    except (PackageNotFoundError, NotInstalled):
        return UNKNOWN
    if apart is not None:
        return f"{package.version} {hashlib.sha256(apart.read_bytes()).hexdigest()}"
    weights = sorted((f for f in package.files or [] if f.name.endswith(_WEIGHTS)), key=str)
    if not weights:
        return package.version
    digest = hashlib.sha256()
    for file in weights:
        digest.update(str(file).encode())
        digest.update(Path(str(file.locate())).read_bytes())
    return f"{package.version} {digest.hexdigest()}"
