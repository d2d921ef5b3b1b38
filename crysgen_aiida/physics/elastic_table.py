"""Elastic constants as a table, one row a crystal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused, refusal_columns

if TYPE_CHECKING:
    from crysgen_aiida.physics.elasticity import Elastic

_AVERAGES = (
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
    "young_modulus_vrh",
    "poisson_ratio",
    "universal_anisotropy",
)


def elastic_table(
    rows: range, records: Sequence[dict[str, Any]], found: Sequence[Elastic | Refused], method: str
) -> PropertyTable:
    """Return one row a crystal: ``ok`` with its elastic constants, or the reason why it has none.

    :returns: ``elastic_stable`` with ``elastic_verdict``, the sentence that says why; the registered properties of
        elasticity, averages being absent of unstable crystals; ``clamped_tensor`` [GPa], the constants with atoms
        that follow the strain only; and how well: ``asymmetry``, ``symmetry_residual``, ``nonlinearity`` [GPa].
    """
    good = [None if isinstance(f, Refused) else f for f in found]
    number = pa.float64()
    columns: dict[pa.Field, list[Any]] = {
        pa.field("elastic_stable", pa.bool_()): [e and e.stable for e in good],
        pa.field("elastic_verdict", pa.string()): [e and verdict(e) for e in good],
        schema.property_field("elastic_tensor", method): [e and e.tensor.ravel().tolist() for e in good],
        schema.property_field("elastic_min_eigenvalue", method): [e and float(e.eigenvalues[0]) for e in good],
        **{schema.property_field(name, method): [e and e.averages.get(name) for e in good] for name in _AVERAGES},
        pa.field("clamped_tensor", pa.list_(number, 36)): [e and e.clamped.ravel().tolist() for e in good],
        pa.field("asymmetry", number): [e and e.asymmetry for e in good],
        pa.field("symmetry_residual", number): [e and e.residual for e in good],
        pa.field("nonlinearity", number): [e and e.nonlinearity for e in good],
        pa.field("n_strains", pa.int32()): [e and e.n_strains for e in good],
        pa.field("n_atoms", pa.int32()): [e and e.n_atoms for e in good],
    }
    return PropertyTable(refusal_columns(rows, records, found)).with_columns(columns)


def verdict(elastic: Elastic) -> str:
    """Return a sentence that says whether every strain costs energy."""
    least = f"the least eigenvalue of the elastic tensor is {elastic.eigenvalues[0]:.3g} GPa"
    return f"{least}: every strain costs energy" if elastic.stable else f"{least}: a strain lowers the energy"
