"""The registry of interatomic potentials: one interface, one record of what was used.

A potential is always a parameter of a computation and is recorded with the hash of its checkpoint. What it may be
compared with is declared here: ``self-consistent`` (its own energies only) and, if it was trained on energies with the
corrections of the Materials Project of 2020, ``mp2020-compatible``.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.batch import BatchPotential, CellBatch, Evaluation

SELF_CONSISTENT, MP2020 = "self-consistent", "mp2020-compatible"


@dataclass(frozen=True)
class PotentialInfo:
    """What may be known of a potential without loading it.

    :param version: of the checkpoint; ``method`` joins it to the name and is what value columns carry.
    :param schemes: reference energies its energies may be compared with.
    :param conservative: whether forces are exact derivatives of the energy; others cannot be used for phonons.
    :param max_z: elements 1 to ``max_z`` are covered, except those in ``without``.
    :param calculator: ``module:callable`` that returns an ASE calculator, for all but CHGNet.
    :param arguments: keyword arguments of that callable.
    """

    name: str
    version: str
    schemes: tuple[str, ...]
    conservative: bool
    max_z: int
    install: str
    citation: str
    licence: str
    calculator: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    without: tuple[int, ...] = (84, 85, 86, 87, 88)  # Po to Ra: in none of the Materials Project's trajectories

    @property
    def method(self) -> str:
        """The method stamped on every value it produces, e.g. ``chgnet-0.3.0``."""
        return f"{self.name}-{self.version}"

    def covers(self, numbers: Sequence[int]) -> bool:
        """Whether all of these elements are in its training data."""
        return all(1 <= z <= self.max_z and z not in self.without for z in numbers)


_CHGNET = PotentialInfo(
    name="chgnet",
    version="0.3.0",
    schemes=(SELF_CONSISTENT, MP2020),
    conservative=True,
    max_z=94,
    install="chgnet>=0.4.2",
    citation="Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
    licence="BSD-3-Clause",
)
_OTHERS = (
    PotentialInfo(
        name="sevennet",
        version="0-11July2024",
        schemes=(SELF_CONSISTENT,),
        conservative=True,
        max_z=94,
        install="sevenn>=0.11",
        citation="Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        licence="GPL-3.0",
        calculator="sevenn.calculator:SevenNetCalculator",
        arguments=(("model", "7net-0"),),
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
        calculator="mattersim.forcefield:MatterSimCalculator",
        arguments=(("load_path", "MatterSim-v1.0.0-5M.pth"),),
    ),
)

POTENTIALS: dict[str, PotentialInfo] = {p.name: p for p in (_CHGNET, *_OTHERS)}
DEFAULT_POTENTIAL = "chgnet"


def get_potential(name: str) -> PotentialInfo:
    """Return a registered potential.

    :raises ImpossibleRequest: if it is not registered; the message lists what is.
    """
    if name not in POTENTIALS:
        close = difflib.get_close_matches(name, POTENTIALS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(POTENTIALS)}."
        raise ImpossibleRequest(f"There is no potential {name!r}. {hint}")
    return POTENTIALS[name]


@dataclass(frozen=True)
class LoadedPotential:
    """A potential ready to evaluate, with the record that goes into every set it makes."""

    info: PotentialInfo
    checkpoint_hash: str
    compute: BatchPotential

    def record(self) -> dict[str, Any]:
        """Return name, version, method, checkpoint hash and energy schemes, for the metadata of a set."""
        return {
            "name": self.info.name,
            "version": self.info.version,
            "method": self.info.method,
            "checkpoint_sha256": self.checkpoint_hash,
            "schemes": list(self.info.schemes),
            "conservative": self.info.conservative,
        }


def load_potential(name: str, device: str = "cpu") -> LoadedPotential:
    """Load a potential.

    :param device: ``cpu`` or ``cuda``.
    :raises ImpossibleRequest: if it is not registered.
    :raises NotInstalled: if its package is missing; the message has the pip line.
    :raises CorruptWeights: if its checkpoint cannot be read.
    """
    info = get_potential(name)
    if info.calculator is None:
        from crysgen_aiida.physics.chgnet_batch import CHGNetBatch, checkpoint_hash

        return LoadedPotential(info, checkpoint_hash(), CHGNetBatch(device))
    module, _, attribute = info.calculator.partition(":")
    try:
        make: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotInstalled(
            f"The potential {name!r} needs {module}, which cannot be imported here ({error}); "
            f"run `pip install '{info.install}'` where the worker runs."
        ) from error
    calculator = make(device=device, **dict(info.arguments))
    return LoadedPotential(info, hash_parameters(calculator), ASEPotential(calculator))


class ASEPotential:
    """Any ASE calculator as a :class:`~crysgen_aiida.physics.batch.BatchPotential`, one crystal after the other."""

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator

    def evaluate(self, batch: CellBatch) -> Evaluation:
        """Return energies [eV], forces [eV/A] and stresses [eV/A^3] of a batch."""
        from ase import Atoms

        from crysgen_aiida.physics.neighbours import half_list

        starts, n = batch.starts, len(batch.counts)
        energies, stresses, shortest = np.zeros(n), np.zeros((n, 3, 3)), np.full(n, np.inf)
        isolated = np.zeros(n, dtype=np.int64)
        forces = np.zeros_like(batch.positions)
        for b in range(n):
            part = slice(starts[b], starts[b + 1])
            cell = batch.cells[b]
            atoms = Atoms(batch.numbers[part], positions=batch.positions[part], cell=cell, pbc=True)
            atoms.calc = self.calculator
            energies[b] = atoms.get_potential_energy()
            forces[part] = atoms.get_forces()
            stresses[b] = atoms.get_stress(voigt=False)
            pairs = half_list(cell, batch.positions[part] @ np.linalg.inv(cell), 6.0, 0.0)
            vectors = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.image @ cell
            if len(vectors):
                shortest[b] = float(np.sqrt((vectors * vectors).sum(axis=1)).min())
            isolated[b] = len(atoms) - len(np.union1d(pairs.i, pairs.j))
        return Evaluation(energies=energies, forces=forces, stresses=stresses, isolated=isolated, shortest=shortest)

    def forget(self, keys: Sequence[int] | None = None) -> None:
        """Nothing is kept between evaluations."""


def hash_parameters(calculator: Any) -> str:
    """Return a SHA-256 over the parameters of the torch module inside an ASE calculator.

    :raises ImpossibleRequest: if none is found, since an unrecorded potential cannot be compared with anything.
    """
    import torch

    held = [calculator, *vars(calculator).values()]
    held += [m for v in held if isinstance(v, (list, tuple)) for m in v]
    held += [getattr(v, "model", None) for v in held]
    modules = [m for m in held if isinstance(m, torch.nn.Module)]
    if not modules:
        raise ImpossibleRequest(f"{type(calculator).__name__} holds no torch module whose parameters could be hashed.")
    digest = hashlib.sha256()
    for name, tensor in sorted(modules[0].state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return digest.hexdigest()
