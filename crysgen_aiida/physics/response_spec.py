"""Settings of phonons and of elastic constants, free of heavy imports: a job can be refused before it is written."""

from __future__ import annotations

from dataclasses import dataclass

#: The potential that judges phonons and elastic constants unless another is named.
DEFAULT_JUDGE = "chgnet"


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


def _positive(spec: object, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; it must be positive")
