"""Settings of electronic transport, free of heavy imports: a job can be refused before it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransportSpec:
    """How transport coefficients are computed from bands.

    :param doping: net concentrations of carriers [1/cm^3], of electrons and of holes alike.
    :param temperature: [K].
    :param tau: relaxation time [s] of the power factor; constant, and the same for every crystal. What is divided by
        it does not depend on it.
    :param multiplier: lattice vectors of the interpolation for each irreducible k-point.
    :param grid_length: the bands are interpolated on ``grid_length / |a|`` points along an axis ``a`` [A], at least.
    :param bin_width: of the densities of states [eV].
    :param window: bands farther than that from the gap or the Fermi level carry nothing [eV].
    :param symprec: tolerance of the symmetry of the crystal [A].
    :param max_mismatch: largest difference of the energies of k-points that symmetry makes equal [eV].
    """

    doping: tuple[float, ...] = (1e18, 3e18, 1e19, 3e19, 1e20, 3e20, 1e21)
    temperature: float = 300.0
    tau: float = 1e-14
    multiplier: float = 10.0
    grid_length: float = 300.0
    bin_width: float = 0.002
    window: float = 1.5
    symprec: float = 0.01
    max_mismatch: float = 0.01

    def __post_init__(self) -> None:
        for name in ("temperature", "tau", "grid_length", "bin_width", "window", "symprec", "max_mismatch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be positive")
        if self.multiplier < 1:
            raise ValueError(f"multiplier is {self.multiplier:g}; give 1 or more, usually 5 to 20")
        wrong = not isinstance(self.doping, tuple) or not self.doping
        if wrong or not all(isinstance(n, (int, float)) and 0 < n <= 1e23 for n in self.doping):
            raise ValueError(f"doping is {self.doping!r}; give concentrations [1/cm^3] above 0, e.g. 1e19, 1e20")
        if list(self.doping) != sorted(set(self.doping)):
            raise ValueError(f"doping is {self.doping!r}; give each concentration once, in rising order")
        # a graph stores 1e20 as a whole number, which no 64-bit integer holds
        object.__setattr__(self, "doping", tuple(float(n) for n in self.doping))
