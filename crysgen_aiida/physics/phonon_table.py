"""Phonons as a table, one row a crystal: verdicts, properties, and the curves a plot needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused, refusal_columns
from crysgen_aiida.physics.judges import doubt
from crysgen_aiida.physics.response_spec import PhononSpec

if TYPE_CHECKING:
    from crysgen_aiida.physics.phonons import Phonons

#: Registered properties to the attribute of :class:`~crysgen_aiida.physics.phonons.Phonons` they come from.
_PROPERTIES = {
    "phonon_min_frequency": "min_frequency",
    "phonon_min_frequency_gamma": "min_frequency_gamma",
    "phonon_min_frequency_commensurate": "min_frequency_commensurate",
    "phonon_max_frequency": "max_frequency",
}
_THERMAL = ("zero_point_energy", "heat_capacity_300k", "vibrational_entropy_300k", "vibrational_free_energy_300k")
_FLOATS, _WHOLE, _CELL = pa.list_(pa.float32()), pa.int32(), pa.list_(pa.float64(), 9)


def phonon_table(
    rows: range, records: Sequence[dict[str, Any]], found: Sequence[Phonons | Refused], spec: PhononSpec, method: str
) -> PropertyTable:
    """Return one row a crystal: ``ok`` with its phonons, or the reason why it has none.

    :returns: the registered properties of phonons; ``phonon_stable`` and ``phonon_stable_gamma`` with
        ``phonon_verdict``, the sentence that says why, and whether this judge may be used for a claim; what was
        computed (``n_displacements``, ``supercell``, ``supercell_atoms``, ``mesh``) and how well (``asr_before``,
        ``asr_after`` [eV/A^2], ``acoustic_gamma`` [THz]); bands along the path of seekpath (``primitive_lattice``
        [A], ``band_labels``: first and last point of each segment, ``band_lengths``: its points, ``band_qpoints``
        Q x 3, ``band_frequencies`` Q x 3 n [THz]) and density of states (``dos_frequencies`` [THz], ``dos``
        [states/THz and primitive cell]).
    """
    good = [None if isinstance(f, Refused) else f for f in found]
    text = pa.string()
    columns: dict[pa.Field, list[Any]] = {
        pa.field("phonon_stable", pa.bool_()): [p and p.stable(spec.tolerance) for p in good],
        pa.field("phonon_stable_gamma", pa.bool_()): [p and p.stable_gamma(spec.tolerance) for p in good],
        pa.field("phonon_verdict", text): [p and _with_doubt(verdict(p, spec.tolerance), method) for p in good],
        **{
            schema.property_field(name, method): [p and getattr(p, attribute) for p in good]
            for name, attribute in _PROPERTIES.items()
        },
        **{schema.property_field(name, method): [p and p.thermal.get(name) for p in good] for name in _THERMAL},
        pa.field("n_displacements", _WHOLE): [p and p.n_displacements for p in good],
        pa.field("supercell", pa.list_(_WHOLE, 3)): [p and list(p.supercell) for p in good],
        pa.field("supercell_atoms", _WHOLE): [p and p.supercell_atoms for p in good],
        pa.field("mesh", pa.list_(_WHOLE, 3)): [p and list(p.mesh) for p in good],
        pa.field("acoustic_gamma", pa.float64()): [p and p.acoustic_gamma for p in good],
        pa.field("asr_before", pa.float64()): [p and p.asr_before for p in good],
        pa.field("asr_after", pa.float64()): [p and p.asr_after for p in good],
        pa.field("primitive_lattice", pa.list_(pa.float64(), 9)): [
            p and p.bands.lattice.ravel().tolist() for p in good
        ],
        pa.field("band_labels", pa.list_(text)): [p and [x for pair in p.bands.labels for x in pair] for p in good],
        pa.field("band_lengths", pa.list_(_WHOLE)): [p and p.bands.lengths for p in good],
        pa.field("band_qpoints", _FLOATS): [p and p.bands.qpoints.ravel().tolist() for p in good],
        pa.field("band_frequencies", _FLOATS): [p and p.bands.frequencies.ravel().tolist() for p in good],
        pa.field("dos_frequencies", _FLOATS): [p and p.dos[0].tolist() for p in good],
        pa.field("dos", _FLOATS): [p and p.dos[1].tolist() for p in good],
    }
    return PropertyTable(refusal_columns(rows, records, found)).with_columns(columns)


def _with_doubt(sentence: str, method: str) -> str:
    doubts = doubt(method)
    return sentence if doubts is None else f"{sentence}; {doubts}"


def verdict(phonons: Phonons, tolerance: float) -> str:
    """Return a sentence that says whether the crystal is at a minimum for all displacements looked at, and why."""
    mesh = "x".join(map(str, phonons.mesh))
    where = ", ".join(f"{x:.3g}" for x in phonons.min_qpoint)
    lowest = f"the lowest mode of the {mesh} mesh is {phonons.min_frequency:.3g} THz at q = ({where})"
    if phonons.stable(tolerance):
        return f"{lowest}: none below -{tolerance:g} THz"
    held = phonons.min_frequency_commensurate
    if held is not None and held < -tolerance:
        fits = f"at a wave vector that fits the supercell the lowest is {held:.3g} THz"
    else:
        fits = "no wave vector that fits the supercell has such a mode: it is interpolated, a larger supercell decides"
    return f"{lowest}, and {fits}: below -{tolerance:g} THz"
