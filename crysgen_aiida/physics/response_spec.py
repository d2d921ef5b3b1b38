"""Settings of what a potential's derivatives give, free of heavy imports: a job can be refused before it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhononSpec:
    """How phonons are computed and when they are called stable.

    :param displacement: of one atom in a supercell [A].
    :param min_length: least distance of an atom to its images in the supercell [A].
    :param max_atoms: supercells of more atoms are not computed.
    :param mesh_length: a mesh of q-points has ``mesh_length / |a|`` points along an axis ``a`` [A], and Gamma.
    :param tolerance: modes above ``-tolerance`` count as real [THz].
    :param max_force: crystals with a larger force on an atom are not relaxed, hence refused [eV/A].
    :param max_stress: the same for the largest component of the stress [GPa].
    :param symprec: tolerance of the symmetry imposed before anything is displaced [A].
    :param band_points: points on the longest segment of the band structure; others in proportion.
    :param dos_points: points of the density of states.
    """

    displacement: float = 0.03
    min_length: float = 10.0
    max_atoms: int = 400
    mesh_length: float = 50.0
    tolerance: float = 0.05
    max_force: float = 0.02
    max_stress: float = 0.5
    symprec: float = 0.01
    band_points: int = 31
    dos_points: int = 201

    def __post_init__(self) -> None:
        _positive(self, "displacement", "min_length", "mesh_length", "max_force", "max_stress", "symprec")
        if self.displacement > 0.2:
            raise ValueError(f"displacement is {self.displacement:g} A; give 0.2 A at most, usually 0.01 to 0.1")
        if self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance:g} THz; give 0 or more")
        if self.max_atoms < 1 or self.band_points < 2 or self.dos_points < 2:
            raise ValueError("max_atoms must be 1 or more, band_points and dos_points 2 or more")


@dataclass(frozen=True)
class ElasticSpec:
    """How elastic constants are computed.

    :param strains: amplitudes of each of the six strains, taken with both signs.
    :param fmax: largest force on an atom left in a strained cell [eV/A]; what is left of it enters the constants.
    :param max_steps: steps after which the relaxation of a strained cell is given up.
    :param max_atoms: primitive cells of more atoms are not computed.
    :param max_force: crystals with a larger force on an atom are not relaxed, hence refused [eV/A].
    :param max_stress: the same for the largest component of the stress [GPa].
    :param symprec: tolerance of the symmetry imposed on the crystal and on its constants [A].
    """

    strains: tuple[float, ...] = (0.005, 0.01)
    fmax: float = 0.001
    max_steps: int = 300
    max_atoms: int = 100
    max_force: float = 0.02
    max_stress: float = 0.5
    symprec: float = 0.01

    def __post_init__(self) -> None:
        _positive(self, "fmax", "max_force", "max_stress", "symprec")
        if not self.strains or not all(isinstance(s, (int, float)) and 0 < s <= 0.05 for s in self.strains):
            raise ValueError(f"strains are {self.strains!r}; give numbers above 0, at most 0.05, e.g. 0.005, 0.01")
        if len(set(self.strains)) < len(self.strains):
            raise ValueError(f"strains are {self.strains!r}; name each amplitude once")
        if self.max_steps < 1 or self.max_atoms < 1:
            raise ValueError("max_steps and max_atoms must be 1 or more")


#: Temperature of the registered property ``kappa_300k`` [K].
ROOM = 300.0


@dataclass(frozen=True)
class KappaSpec:
    """How the lattice thermal conductivity is computed and when it is called converged.

    :param displacement: of one atom, and of a second one, in a supercell [A].
    :param fc3_min_length: least distance of an atom to its images in the supercell of the third-order constants [A].
    :param fc2_min_length: the same for those of second order, which reach farther [A].
    :param max_atoms: crystals that need a supercell of more atoms are not computed.
    :param max_displacements: crystals that need more displaced supercells are not computed.
    :param mesh_lengths: of the coarse and of the fine mesh of q-points; a mesh has ``length / |a|`` points along an
        axis ``a`` [A].
    :param mesh_tolerance: largest relative change between the two meshes of a converged conductivity.
    :param method: ``rta``, the relaxation-time approximation, or ``lbte``, the linearised Boltzmann equation solved.
    :param temperatures: [K]; 300 must be among them.
    :param isotopes: whether natural isotopes scatter.
    :param check_displacement: a second displacement [A] to compute everything with again on the coarse mesh; 0 for
        none. Forces of a smooth potential give the same.
    :param tolerance: a crystal with a mode below ``-tolerance`` [THz] has no lifetimes, hence is refused.
    :param max_force: crystals with a larger force on an atom are not relaxed, hence refused [eV/A].
    :param max_stress: the same for the largest component of the stress [GPa].
    :param symprec: tolerance of the symmetry imposed before anything is displaced [A].
    :param cumulative_points: frequencies at which the cumulative conductivity is kept.
    """

    displacement: float = 0.03
    fc3_min_length: float = 8.0
    fc2_min_length: float = 12.0
    max_atoms: int = 400
    max_displacements: int = 1000
    mesh_lengths: tuple[float, ...] = (35.0, 50.0)
    mesh_tolerance: float = 0.1
    method: str = "rta"
    temperatures: tuple[float, ...] = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
    isotopes: bool = True
    check_displacement: float = 0.0
    tolerance: float = 0.05
    max_force: float = 0.02
    max_stress: float = 0.5
    symprec: float = 0.01
    cumulative_points: int = 101

    def __post_init__(self) -> None:
        _positive(
            self, "displacement", "fc3_min_length", "fc2_min_length", "mesh_tolerance", "max_force", "max_stress",
            "symprec", "max_atoms", "max_displacements",
        )  # fmt: skip
        if max(self.displacement, self.check_displacement) > 0.2 or self.check_displacement < 0:
            raise ValueError("a displacement of more than 0.2 A, or a negative one, is no small one; give 0.01 to 0.1")
        if self.check_displacement == self.displacement:
            raise ValueError("check_displacement equals displacement; give another one, or 0 for no check")
        if self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance:g} THz; give 0 or more")
        if self.method not in ("rta", "lbte"):
            raise ValueError(f"method is {self.method!r}; give rta or lbte")
        if (
            not _numbers(self.mesh_lengths)
            or len(self.mesh_lengths) != 2
            or not 0 < self.mesh_lengths[0] < self.mesh_lengths[1]
        ):
            raise ValueError(f"mesh_lengths are {self.mesh_lengths!r}; give a coarse and a fine one, e.g. 35, 50")
        if not _numbers(self.temperatures) or ROOM not in self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"temperatures are {self.temperatures!r}; give positive ones [K], 300 among them")
        if self.cumulative_points < 2:
            raise ValueError("cumulative_points must be 2 or more")


def _numbers(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(v, (int, float)) for v in values)


def _positive(spec: object, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; it must be positive")
