"""The registry of interatomic potentials: one interface, one record of what was used.

A potential is always a parameter of a computation and is recorded with the hash of its checkpoint. What it may be
compared with is declared here: ``self-consistent`` (its own energies only) and, if it was trained on energies with the
corrections of the Materials Project of 2020, ``mp2020-compatible``. Others may be added by a package of their own: an
entry point in the group ``crysgen.potentials`` that names a :class:`PotentialInfo`.
"""

from __future__ import annotations

import difflib
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.batch import BatchPotential

SELF_CONSISTENT, MP2020 = "self-consistent", "mp2020-compatible"
#: Entry points of this group add potentials.
GROUP = "crysgen.potentials"

_UNCORRECTED = "PBE and PBE+U as Materials Project computes them, without corrections"
_CORRECTED = "PBE and PBE+U with the Materials Project's corrections of 2020"


@dataclass(frozen=True)
class PotentialInfo:
    """What may be known of a potential without loading it.

    :param version: of the checkpoint; ``method`` joins it to the name and is what value columns carry.
    :param schemes: reference energies its energies may be compared with.
    :param conservative: whether forces are exact derivatives of the energy; others cannot be used for phonons.
    :param max_z: elements 1 to ``max_z`` are covered, except those in ``without``.
    :param install: what `pip install` is given.
    :param energies: the scale of its energies, and the corrections in it.
    :param package: the package that must be importable.
    :param module: module that evaluates it in batches, with functions ``checkpoint_path(**arguments)`` and
        ``load(device, **arguments)``; empty for an ASE calculator.
    :param calculator: ``module:callable`` that returns an ASE calculator; empty with ``module``.
    :param arguments: keyword arguments of those functions, or of that callable.
    """

    name: str
    version: str
    schemes: tuple[str, ...]
    conservative: bool
    max_z: int
    install: str
    citation: str
    licence: str
    energies: str
    package: str
    module: str = ""
    calculator: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()
    without: tuple[int, ...] = (84, 85, 86, 87, 88)  # Po to Ra: in none of the Materials Project's trajectories

    @property
    def method(self) -> str:
        """The method stamped on every value it produces, e.g. ``chgnet-0.3.0``."""
        return f"{self.name}-{self.version}"

    def covers(self, numbers: Sequence[int]) -> bool:
        """Whether all of these elements are in its training data."""
        return all(1 <= z <= self.max_z and z not in self.without for z in numbers)

    @property
    def n_elements(self) -> int:
        """How many elements it covers."""
        return sum(self.covers([z]) for z in range(1, self.max_z + 1))

    def missing(self) -> str | None:
        """Return why it cannot be loaded here, None if nothing is known to be missing. Nothing is imported."""
        if find_spec(self.package.partition(".")[0]) is None:
            return (
                f"The potential {self.name!r} needs {self.package}, which cannot be imported here; run "
                f"`pip install '{self.install}'` where the worker runs."
            )
        if self.module:
            try:
                import_module(self.module).checkpoint_path(**dict(self.arguments))
            except NotInstalled as error:
                return str(error)
        return None


_HERE = "crysgen_aiida.physics"
_BUILT_IN = (
    PotentialInfo(
        name="chgnet",
        version="0.3.0",
        schemes=(SELF_CONSISTENT, MP2020),
        conservative=True,
        max_z=94,
        install="chgnet>=0.4.2",
        citation="Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        licence="BSD-3-Clause",
        energies=_CORRECTED,
        package="chgnet",
        module=f"{_HERE}.chgnet_batch",
    ),
    PotentialInfo(
        name="sevennet",
        version="l3i5",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=94,
        install="sevenn>=0.11",
        citation="Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        licence="GPL-3.0",
        energies=_UNCORRECTED,
        package="sevenn",
        module=f"{_HERE}.sevennet_batch",
        arguments=(("model", "l3i5"),),
    ),
    PotentialInfo(
        name="sevennet-0",
        version="11July2024",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=94,
        install="sevenn>=0.11",
        citation="Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        licence="GPL-3.0",
        energies=_UNCORRECTED,
        package="sevenn",
        module=f"{_HERE}.sevennet_batch",
        arguments=(("model", "0"),),
    ),
    PotentialInfo(
        name="nequix",
        version="mp-1-pft",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=94,
        install="e3nn>=0.5",
        citation="Koker et al., arXiv:2508.16067",
        licence="MIT",
        energies=_UNCORRECTED,
        package="e3nn",
        module=f"{_HERE}.nequix_batch",
    ),
    PotentialInfo(
        name="mace",
        version="mpa-0-medium",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=89,
        install="mace-torch>=0.3.10",
        citation="Batatia et al., arXiv:2401.00096",
        licence="MIT",
        energies=_UNCORRECTED,
        package="mace",
        calculator="mace.calculators:mace_mp",
        arguments=(("model", "medium-mpa-0"), ("default_dtype", "float64")),
    ),
    PotentialInfo(
        name="mattersim",
        version="v1.0.0-5M",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=94,
        install="mattersim>=1.2",
        citation="Yang et al., arXiv:2405.04967",
        licence="MIT",
        energies="PBE and PBE+U of its own data set, in the Materials Project's settings, without corrections",
        package="mattersim",
        calculator="mattersim.forcefield:MatterSimCalculator",
        arguments=(("load_path", "MatterSim-v1.0.0-5M.pth"),),
    ),
    *(
        PotentialInfo(
            name=name,
            version=f"v3-{kind}-inf-mpa",
            schemes=(SELF_CONSISTENT,),
            conservative=conservative,
            max_z=94,
            install="orb-models>=0.5",
            citation="Rhodes et al., arXiv:2504.06231",
            licence="Apache-2.0",
            energies=_UNCORRECTED,
            package="orb_models",
            calculator=f"{_HERE}.ase_potential:orb_calculator",
            arguments=(("model", f"orb_v3_{kind}_inf_mpa"),),
        )
        for name, kind, conservative in (("orb", "conservative", True), ("orb-direct", "direct", False))
    ),
)

POTENTIALS: dict[str, PotentialInfo] = {p.name: p for p in _BUILT_IN}
DEFAULT_POTENTIAL = "chgnet"


@cache
def potentials() -> dict[str, PotentialInfo]:
    """Return all registered potentials, those of plug-ins behind the built-in ones.

    A plug-in that cannot be imported, is no :class:`PotentialInfo` or takes a name that is taken is left out with a
    warning: it must not stop work that does not need it.
    """
    found = dict(POTENTIALS)
    for entry in metadata.entry_points(group=GROUP):
        try:
            info = entry.load()
        except Exception as error:  # whatever a foreign package does when imported
            warnings.warn(f"The potential {entry.name!r} ({entry.value}) cannot be imported: {error}", stacklevel=2)
            continue
        if not isinstance(info, PotentialInfo):
            warnings.warn(f"The entry point {entry.name!r} of {GROUP} names no PotentialInfo.", stacklevel=2)
        elif info.name in found:
            warnings.warn(f"There are two potentials {info.name!r}; that of {entry.value} is left out.", stacklevel=2)
        else:
            found[info.name] = info
    return found


def get_potential(name: str) -> PotentialInfo:
    """Return a registered potential.

    :raises ImpossibleRequest: if it is not registered; the message lists what is.
    """
    known = potentials()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise ImpossibleRequest(f"There is no potential {name!r}. {hint}")
    return known[name]


@dataclass(frozen=True)
class LoadedPotential:
    """A potential ready to evaluate, with the record that goes into every set it makes."""

    info: PotentialInfo
    checkpoint_hash: str
    compute: BatchPotential

    def record(self) -> dict[str, Any]:
        """Return name, version, method, checkpoint hash and energy scale, for the metadata of a set."""
        return {
            "name": self.info.name,
            "version": self.info.version,
            "method": self.info.method,
            "checkpoint_sha256": self.checkpoint_hash,
            "schemes": list(self.info.schemes),
            "energies": self.info.energies,
            "conservative": self.info.conservative,
        }


def load_potential(name: str, device: str = "cpu") -> LoadedPotential:
    """Load a potential.

    :param device: ``cpu`` or ``cuda``.
    :raises ImpossibleRequest: if it is not registered.
    :raises NotInstalled: if its package or its weights are missing; the message has the remedy.
    :raises CorruptWeights: if its checkpoint cannot be read.
    """
    info = get_potential(name)
    if (missing := info.missing()) is not None:
        raise NotInstalled(missing)
    arguments = dict(info.arguments)
    if info.module:
        module = import_module(info.module)
        compute = module.load(device, **arguments)
        content: bytes = module.checkpoint_path(**arguments).read_bytes()
        return LoadedPotential(info, hashlib.sha256(content).hexdigest(), compute)
    evaluator = import_module(f"{_HERE}.ase_potential")
    calculator = evaluator.make_calculator(info, device)
    return LoadedPotential(info, evaluator.hash_parameters(calculator), evaluator.ASEPotential(calculator))
