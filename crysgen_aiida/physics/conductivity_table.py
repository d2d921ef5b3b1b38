"""Thermal conductivity as a table, one row a crystal, and how far the potential behind it may be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused, refusal_columns
from crysgen_aiida.physics.response_spec import KappaSpec

if TYPE_CHECKING:
    from crysgen_aiida.physics.conductivity import Conductivity

#: Of natural silicon at 300 K [W/m/K]: C. Y. Ho, R. W. Powell, P. E. Liley, J. Phys. Chem. Ref. Data 1, 279 (1972).
SILICON = 148.0
#: What potentials give for it [W/m/K], by method, on meshes of 16^3 points and more: ``benchmarks/kappa.py``.
MEASURED = {"chgnet-0.3.0": 3.5, "nequix-mp-1-pft": 125.0, "sevennet-l3i5": 88.0}
#: A potential off by more than this factor on silicon is no judge of conductivity.
FACTOR = 2.0

_FLOATS, _WHOLE = pa.list_(pa.float64()), pa.int32()


def conductivity_table(
    rows: range,
    records: Sequence[dict[str, Any]],
    found: Sequence[Conductivity | Refused],
    spec: KappaSpec,
    method: str,
) -> PropertyTable:
    """Return one row a crystal: ``ok`` with its conductivity, or the reason why it has none.

    :returns: ``kappa_300k`` and ``kappa_tensor`` of the fine mesh; ``kappa_converged`` with ``kappa_verdict``, the
        sentence that says why and what the potential is worth; ``temperatures`` [K] with ``kappa`` [W/m/K], a third
        of the trace at each, and ``kappa_tensors``, T x 6 in Voigt order; what was computed (``kappa_solver``,
        ``n_displacements``, ``fc3_supercell``, ``fc3_atoms``, ``fc2_supercell``, ``fc2_atoms``, ``mesh_coarse``,
        ``mesh_fine``) and how well (``kappa_coarse`` [W/m/K], ``mesh_change``, ``displacement_change``, relative);
        ``cumulative_kappa`` [W/m/K] of the modes up to ``cumulative_frequencies`` [THz] at 300 K.
    """
    good = [None if isinstance(f, Refused) else f for f in found]
    triple = pa.list_(_WHOLE, 3)
    columns: dict[pa.Field, list[Any]] = {
        pa.field("kappa_converged", pa.bool_()): [k and k.mesh_change <= spec.mesh_tolerance for k in good],
        pa.field("kappa_verdict", pa.string()): [k and verdict(k, spec, method) for k in good],
        schema.property_field("kappa_300k", method): [k and k.kappa for k in good],
        schema.property_field("kappa_tensor", method): [k and k.tensor.tolist() for k in good],
        schema.property_field("phonon_min_frequency", method): [k and k.min_frequency for k in good],
        schema.property_field("phonon_max_frequency", method): [k and k.max_frequency for k in good],
        pa.field("kappa_solver", pa.string()): [k and spec.method for k in good],
        pa.field("temperatures", _FLOATS): [k and list(k.temperatures) for k in good],
        pa.field("kappa", _FLOATS): [k and k.fine.tensors[:, :3].mean(axis=1).tolist() for k in good],
        pa.field("kappa_tensors", _FLOATS): [k and k.fine.tensors.ravel().tolist() for k in good],
        pa.field("n_displacements", _WHOLE): [k and k.n_displacements for k in good],
        pa.field("fc3_supercell", triple): [k and list(k.fc3_supercell) for k in good],
        pa.field("fc3_atoms", _WHOLE): [k and k.fc3_atoms for k in good],
        pa.field("fc2_supercell", triple): [k and list(k.fc2_supercell) for k in good],
        pa.field("fc2_atoms", _WHOLE): [k and k.fc2_atoms for k in good],
        pa.field("mesh_coarse", triple): [k and list(k.coarse.numbers) for k in good],
        pa.field("mesh_fine", triple): [k and list(k.fine.numbers) for k in good],
        pa.field("kappa_coarse", pa.float64()): [k and k.kappa_coarse for k in good],
        pa.field("mesh_change", pa.float64()): [k and k.mesh_change for k in good],
        pa.field("displacement_change", pa.float64()): [k and k.displacement_change for k in good],
        pa.field("cumulative_frequencies", _FLOATS): [k and k.fine.frequencies.tolist() for k in good],
        pa.field("cumulative_kappa", _FLOATS): [k and k.fine.cumulative.tolist() for k in good],
    }
    return PropertyTable(refusal_columns(rows, records, found)).with_columns(columns)


def verdict(found: Conductivity, spec: KappaSpec, method: str) -> str:
    """Return a sentence that says whether the number is converged, and what the potential is worth."""
    meshes = [("x".join(map(str, mesh.numbers))) for mesh in (found.coarse, found.fine)]
    moved = f"changes by {100 * found.mesh_change:.3g} % from the {meshes[0]} to the {meshes[1]} mesh"
    allowed = f"{100 * spec.mesh_tolerance:g} %"
    if found.mesh_change <= spec.mesh_tolerance:
        said = f"converged: it {moved}, at most {allowed} is allowed"
    else:
        said = f"not converged: it {moved}, more than {allowed}; a finer mesh decides"
    if (change := found.displacement_change) is not None:
        said += (
            f"; with displacements of {spec.check_displacement:g} instead of {spec.displacement:g} A it changes by "
            f"{100 * change:.3g} %"
        )
        if change > spec.mesh_tolerance:
            said += ", so the potential is not smooth enough for third derivatives"
    return f"{said}. {trust(method)}"


def trust(method: str) -> str:
    """Return a sentence on what a potential is worth as a judge of conductivity, by what it gives for silicon.

    :param method: of the potential, e.g. ``chgnet-0.3.0``.
    """
    known = MEASURED.get(method)
    if known is None:
        return f"What {method} gives for silicon is not known here: run benchmarks/kappa.py before it is trusted."
    said = f"{method} gives {known:.3g} W/m/K for silicon, {SILICON:g} is measured"
    if max(known / SILICON, SILICON / known) > FACTOR:
        return f"{said}: off by more than a factor of {FACTOR:g}, so it may not be used for kappa."
    return f"{said}: within a factor of {FACTOR:g}."
