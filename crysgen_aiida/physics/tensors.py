"""From the tensors of a response calculation to registered properties: symmetry, standard axes, averages, d = e s.

Tensors come in the cartesian axes of the crystal they were computed for. They are averaged over its point group (what
that changed is reported), turned to the axes of the IEEE standard on piezoelectricity of 1987, which the Materials
Project uses as well (M. de Jong et al., Sci. Data 2, 150053 (2015)), and made into scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.physics.batch import Floats

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Voigt to Kelvin: in Kelvin's notation eigenvalues do not depend on the axes.
KELVIN = np.sqrt(np.outer((1, 1, 1, 2, 2, 2), (1, 1, 1, 2, 2, 2)))
#: A piezoelectric constant above this [C/m^2] is believed only of a crystal that is otherwise stable.
SUSPICIOUS_PIEZO = 20.0
#: An optical mode at Gamma below minus this [THz] is imaginary.
SOFT_MODE = 0.05
#: A strain that leaves no two directions equal.
_UNEQUAL = np.array([[1.0, 2.0, 3.0], [2.0, 5.0, 1.0], [3.0, 1.0, 9.0]])
_SHAPES = {
    "dielectric_electronic": (3, 3),
    "dielectric_total": (3, 3),
    "piezo_electronic": (3, 6),
    "piezo_total": (3, 6),
    "elastic_clamped": (6, 6),
    "elastic_relaxed": (6, 6),
}


def tensor_properties(
    structure: Structure, tensors: Mapping[str, Any], symprec: float = 0.01
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return registered scalar properties, and facts: the tensors in standard axes and how good they are.

    :param structure: the crystal the tensors were computed for, in the same axes.
    :param tensors: any of ``dielectric_electronic``, ``dielectric_total`` (3, 3), ``born_charges`` (n, 3, 3) [e],
        ``piezo_electronic``, ``piezo_total`` (3, 6) [C/m^2], ``elastic_clamped``, ``elastic_relaxed`` (6, 6) [GPa],
        Voigt order xx yy zz yz xz xy, and ``gamma_frequencies`` (m,) [THz].
    :param symprec: tolerance of the point group [A].
    :returns: values by property, and facts: each tensor in IEEE axes as nested lists, ``residual.<tensor>``: largest
        change of a component when the point group was imposed, ``piezo_strain_tensor`` d [pC/N] if e and C are known,
        ``born_sum``: largest component of the sum of the Born charges [e], and ``doubts``: sentences.
    :raises BadInput: if a tensor has another shape, or a component that is not finite.
    """
    known = {name: _checked(structure, name, value) for name, value in tensors.items()}
    facts: dict[str, Any] = {}
    turned: dict[str, Floats] = {}
    turn = ieee_axes(structure)
    for name in _SHAPES.keys() & known.keys():
        turned[name], residual = standard_tensor(known[name], structure, turn, symprec)
        facts[name] = turned[name].tolist()
        facts[f"residual.{name}"] = residual
    if "born_charges" in known:
        facts["born_sum"] = float(np.abs(known["born_charges"].sum(axis=0)).max())
    values: dict[str, float] = {
        name: float(np.trace(turned[name])) / 3
        for name in ("dielectric_electronic", "dielectric_total")
        if name in turned
    }
    if "elastic_relaxed" in turned:
        values.update(elastic_properties(turned["elastic_relaxed"]))
    if "gamma_frequencies" in known:
        optical = optical_modes(known["gamma_frequencies"])
        if len(optical):
            values["phonon_min_frequency_gamma"] = float(optical.min())
    if "piezo_total" in turned:
        values["piezo_max"] = float(np.abs(turned["piezo_total"]).max())
        if values.get("elastic_min_eigenvalue", 0.0) > 0:
            strain = turned["piezo_total"] @ np.linalg.inv(turned["elastic_relaxed"]) * 1000.0
            facts["piezo_strain_tensor"] = strain.tolist()
            values["piezo_strain_max"] = float(np.abs(strain).max())
    facts["doubts"] = _doubts(values)
    if facts["doubts"]:
        values.pop("piezo_max", None)
        values.pop("piezo_strain_max", None)
    return values, facts


def ieee_axes(structure: Structure) -> Floats:
    """Return the rotation to the axes of the IEEE standard as rows x1, x2, x3; right-handed, (3, 3)."""
    from pymatgen.core import Lattice
    from pymatgen.core.tensors import Tensor

    try:
        axes = np.array(Tensor.get_ieee_rotation(structure), dtype=float)
    except ValueError:  # an orthorhombic cell with two equal lengths: pymatgen sorts them and cannot
        apart = structure.copy()
        apart.lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + 1e-7 * _UNEQUAL))
        axes = np.array(Tensor.get_ieee_rotation(apart), dtype=float)
    # pymatgen sorts the axes of some systems by length and may end left-handed, which would turn the sign of e
    if np.linalg.det(axes) < 0:
        axes[1] = -axes[1]
    return axes


def standard_tensor(tensor: Floats, structure: Structure, turn: Floats, symprec: float) -> tuple[Floats, float]:
    """Return a tensor with the symmetry of the crystal in standard axes, and the largest change by symmetry.

    :param tensor: (3, 3), or in Voigt notation without factors (3, 6) or (6, 6).
    :param turn: rows x1, x2, x3 of the axes, see :func:`ieee_axes`.
    """
    from pymatgen.core.tensors import Tensor

    whole = Tensor(tensor) if tensor.shape == (3, 3) else Tensor.from_voigt(tensor)
    fit = whole.fit_to_structure(structure, symprec)
    residual = float(np.abs(np.array(fit) - np.array(whole)).max())
    rotated = fit.rotate(turn, tol=1e-2)
    return np.array(rotated if tensor.shape == (3, 3) else rotated.voigt, dtype=np.float64), residual


def elastic_properties(tensor: Floats) -> dict[str, float]:
    """Return the registered scalars of elastic constants, averages only if every strain costs energy.

    :param tensor: C_IJ [GPa], (6, 6), in any axes.
    """
    from pymatgen.analysis.elasticity import ElasticTensor

    least = float(np.linalg.eigvalsh(tensor * KELVIN)[0])
    if least <= 0:
        return {"elastic_min_eigenvalue": least}
    held = ElasticTensor.from_voigt((tensor + tensor.T) / 2)
    bulk, shear = float(held.k_vrh), float(held.g_vrh)
    return {
        "elastic_min_eigenvalue": least,
        "bulk_modulus_vrh": bulk,
        "shear_modulus_vrh": shear,
        "young_modulus_vrh": 9 * bulk * shear / (3 * bulk + shear),
        "poisson_ratio": float(held.homogeneous_poisson),
        "universal_anisotropy": float(held.universal_anisotropy),
    }


def optical_modes(frequencies: Floats) -> Floats:
    """Return the frequencies at Gamma without the three that are nearest to zero, the acoustic ones [THz]."""
    order = np.argsort(np.abs(frequencies), kind="stable")
    return np.asarray(frequencies[np.sort(order[3:])], dtype=np.float64)


def _checked(structure: Structure, name: str, value: Any) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    shape = _SHAPES.get(name, (len(structure), 3, 3) if name == "born_charges" else (array.size,))
    if array.shape != shape:
        raise BadInput(f"The tensor {name} has shape {array.shape}; it must be {shape}.")
    if not np.isfinite(array).all():
        raise BadInput(f"The tensor {name} has a component that is not a finite number.")
    return array


def _doubts(values: Mapping[str, float]) -> list[str]:
    """Return why the piezoelectric constants are not to be reported: a soft mode makes them as large as one likes."""
    piezo = values.get("piezo_max", 0.0)
    if piezo <= SUSPICIOUS_PIEZO:
        return []
    lowest, least = values.get("phonon_min_frequency_gamma"), values.get("elastic_min_eigenvalue")
    said = f"|e| of {piezo:.3g} C/m^2 is above {SUSPICIOUS_PIEZO:g} and is not reported: "
    if lowest is None or least is None:
        return [said + "phonons at Gamma and elastic constants that would exclude a soft mode are not known"]
    if lowest < -SOFT_MODE:
        return [said + f"a mode at Gamma is imaginary ({lowest:.3g} THz)"]
    if least <= 0:
        return [said + f"the crystal is elastically unstable (least eigenvalue {least:.3g} GPa)"]
    return []
