"""Any ASE calculator as a potential: evaluated one crystal after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.batch import CellBatch, Evaluation
from crysgen_aiida.physics.neighbours import half_list
from crysgen_aiida.physics.potentials import PotentialInfo


class ASEPotential:
    """An ASE calculator as a :class:`~crysgen_aiida.physics.batch.BatchPotential`."""

    def __init__(self, calculator: Any) -> None:
        self.calculator = calculator

    def evaluate(self, batch: CellBatch) -> Evaluation:
        """Return energies [eV], forces [eV/A] and stresses [eV/A^3] of a batch."""
        from ase import Atoms

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


def make_calculator(info: PotentialInfo, device: str) -> Any:
    """Return the ASE calculator of a potential.

    :raises NotInstalled: if it cannot be imported; the message has the pip line.
    """
    module, _, attribute = info.calculator.partition(":")
    try:
        make: Callable[..., Any] = getattr(import_module(module), attribute)
        return make(device=device, **dict(info.arguments))
    except (ImportError, AttributeError) as error:
        raise NotInstalled(
            f"The potential {info.name!r} needs {module}, which cannot be imported here ({error}); "
            f"run `pip install '{info.install}'` where the worker runs."
        ) from error


def orb_calculator(device: str, model: str) -> Any:
    """Return the ASE calculator of a pretrained Orb model, in full single precision.

    :param model: name of the function of ``orb_models.forcefield.pretrained`` that loads it.
    """
    pretrained = import_module("orb_models.forcefield.pretrained")
    network = getattr(pretrained, model)(device=device, precision="float32-highest", compile=False)
    return import_module("orb_models.forcefield.calculator").ORBCalculator(network, device=device)


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
