"""The one registry of physical properties: name, unit, shape, sign convention, definition.

A property column in any set is named after an entry of this registry and carries its unit and the method that
produced it as Arrow field metadata. Asking for a name that is not here is an error with suggestions.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest


@dataclass(frozen=True)
class Property:
    """A physical property a crystal can have.

    ``better`` is the direction a ranking assumes when it is told nothing: ``lower``, ``higher`` or ``target``.
    ``yes_no``: a crystal has it or not; values are 0 or 1, and files may write them false and true.
    """

    name: str
    unit: str
    definition: str
    shape: tuple[int, ...] = ()
    better: str = "target"
    yes_no: bool = False

    @property
    def kind(self) -> str:
        """What a value is, in words."""
        return "0 or 1" if self.yes_no else "a number"

    def number(self, value: Any) -> float:
        """Return a value of a file as a number, which need not be finite.

        :raises ValueError: if it is none, or neither 0 nor 1 where there is nothing else (``TypeError`` for no text).
        """
        if self.yes_no and isinstance(value, str):
            value = {"false": 0.0, "true": 1.0}.get(value.strip().lower(), value)
        number = float(value)
        if self.yes_no and math.isfinite(number) and number not in (0.0, 1.0):
            raise ValueError(f"{number:g} is neither 0 nor 1")
        return number


_PROPERTIES = (
    Property(
        "formation_energy_per_atom",
        "eV/atom",
        "Energy of formation from the elements in their reference states, per atom; negative is bound.",
        better="lower",
    ),
    Property(
        "energy_per_atom",
        "eV/atom",
        "Total energy per atom on the scale of the method named beside it.",
        better="lower",
    ),
    Property(
        "e_above_hull",
        "eV/atom",
        "Energy above the convex hull as labelled by the source data set; zero is on the hull.",
        better="lower",
    ),
    Property(
        "e_above_reference",
        "eV/atom",
        "Energy above the hull of the named reference set, a lower bound on the distance to the true hull; may be < 0.",
        better="lower",
    ),
    Property("band_gap", "eV", "Kohn-Sham (or surrogate thereof) fundamental gap; zero for metals.", better="target"),
    Property("is_metal_probability", "1", "Surrogate probability that the crystal is metallic.", better="lower"),
    Property(
        "piezo_tensor",
        "C/m^2",
        "Total proper piezoelectric stress tensor e_iJ in Voigt order xx yy zz yz xz xy, IEEE axes, row-major 3x6.",
        shape=(3, 6),
    ),
    Property("piezo_max", "C/m^2", "max |e_iJ| over the 18 components of piezo_tensor.", better="higher"),
    Property(
        "piezo_strain_max",
        "pC/N",
        "max |d_iJ| of the piezoelectric strain tensor d = e s, s the elastic compliance at constant field, IEEE axes.",
        better="higher",
    ),
    Property(
        "dielectric_total",
        "1",
        "Polycrystalline average of the total (electronic + ionic) static dielectric constant.",
        better="higher",
    ),
    Property(
        "dielectric_electronic",
        "1",
        "Polycrystalline average of the electronic (high-frequency) dielectric constant.",
        better="higher",
    ),
    Property("bulk_modulus_vrh", "GPa", "Voigt-Reuss-Hill bulk modulus.", better="higher"),
    Property("shear_modulus_vrh", "GPa", "Voigt-Reuss-Hill shear modulus.", better="higher"),
    Property("young_modulus_vrh", "GPa", "Young's modulus of the Voigt-Reuss-Hill averages.", better="higher"),
    Property("poisson_ratio", "1", "Poisson's ratio of the Voigt-Reuss-Hill averages."),
    Property(
        "universal_anisotropy",
        "1",
        "Universal elastic anisotropy 5 G_V/G_R + K_V/K_R - 6 of Ranganathan and Ostoja-Starzewski; 0 is isotropic.",
    ),
    Property(
        "elastic_tensor",
        "GPa",
        "Elastic constants C_IJ with relaxed atoms in Voigt order xx yy zz yz xz xy, IEEE axes, row-major 6x6.",
        shape=(6, 6),
    ),
    Property(
        "elastic_min_eigenvalue",
        "GPa",
        "Least eigenvalue of the elastic tensor as a map of strains (Kelvin's notation); > 0 by Born's criterion.",
        better="higher",
    ),
    Property(
        "phonon_min_frequency",
        "THz",
        "Lowest phonon frequency on the mesh named beside it, acoustic modes at Gamma left out; imaginary is negative.",
        better="higher",
    ),
    Property(
        "phonon_min_frequency_gamma",
        "THz",
        "Lowest optical phonon frequency at Gamma, without its longitudinal shift; imaginary is negative.",
        better="higher",
    ),
    Property(
        "phonon_min_frequency_commensurate",
        "THz",
        "Lowest phonon frequency at wave vectors that fit the supercell, where nothing is interpolated.",
        better="higher",
    ),
    Property("phonon_max_frequency", "THz", "Highest phonon frequency on the mesh."),
    Property("zero_point_energy", "eV/atom", "Harmonic energy of the phonons at 0 K, per atom."),
    Property("heat_capacity_300k", "J/K/mol", "Harmonic heat capacity at 300 K, volume fixed, per mole of atoms."),
    Property("vibrational_entropy_300k", "J/K/mol", "Harmonic entropy of the phonons at 300 K, per mole of atoms."),
    Property(
        "vibrational_free_energy_300k",
        "eV/atom",
        "Harmonic free energy of the phonons at 300 K, zero-point energy included, per atom.",
        better="lower",
    ),
    Property("kappa_300k", "W/m/K", "Lattice thermal conductivity at 300 K, isotropic average.", better="target"),
    Property(
        "kappa_tensor",
        "W/m/K",
        "Lattice thermal conductivity at 300 K in Voigt order xx yy zz yz xz xy, axes of spglib's standard cell.",
        shape=(6,),
    ),
    Property(
        "power_factor",
        "uW/cm/K^2",
        "Thermoelectric power factor S^2 sigma; of the constant relaxation time named beside it.",
        better="higher",
    ),
    Property(
        "power_factor_over_tau",
        "uW/cm/K^2/s",
        "Power factor over the relaxation time, the greatest over carriers, doping and axes named beside it.",
        better="higher",
    ),
    Property("seebeck", "uV/K", "Magnitude of the Seebeck coefficient.", better="higher"),
    Property("volume_per_atom", "A^3/atom", "Cell volume divided by the number of atoms."),
    Property("density", "g/cm^3", "Mass density."),
    Property("max_force", "eV/A", "Largest force on an atom.", better="lower"),
    Property("max_stress", "GPa", "Largest absolute component of the stress tensor.", better="lower"),
    Property(
        "dissimilarity",
        "1",
        "Least Euclidean distance of the statistics of its site fingerprints to those of the known crystals.",
        better="higher",
    ),
    Property(
        "theoretical",
        "1",
        "1 if its source has no experimental entry (of the ICSD, say) for the crystal, else 0: the field of the "
        "Materials Project. The ICSD score of the FTCP paper is 1 - theoretical.",
        better="lower",
        yes_no=True,
    ),
    Property("min_distance", "A", "Shortest interatomic distance, periodic images included.", better="higher"),
)

PROPERTIES: dict[str, Property] = {p.name: p for p in _PROPERTIES}


def get_property(name: str) -> Property:
    """Return the registered property ``name``.

    :raises ImpossibleRequest: if it is not registered; the message suggests close names.
    """
    try:
        return PROPERTIES[name]
    except KeyError:
        close = difflib.get_close_matches(name, PROPERTIES, n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else f" Known: {', '.join(sorted(PROPERTIES))}."
        raise ImpossibleRequest(f"There is no registered property {name!r}.{hint}") from None
