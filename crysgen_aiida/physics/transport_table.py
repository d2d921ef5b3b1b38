"""Electronic transport as a table, one row a crystal: the greatest power factor, and the curves against doping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused, refusal_columns
from crysgen_aiida.physics.transport_spec import TransportSpec

if TYPE_CHECKING:
    from crysgen_aiida.physics.transport import Transport

AXES = ("x", "y", "z")
#: Columns of curves, for each kind of carriers: name to the attribute of the coefficients.
CURVES = {
    "seebeck": "seebeck",
    "sigma_over_tau": "conductivity",
    "kappa_electronic_over_tau": "thermal",
    "power_factor_over_tau": "power_factor",
}
_FLOATS, _WHOLE = pa.list_(pa.float64()), pa.int32()


def transport_table(
    rows: range,
    records: Sequence[dict[str, Any]],
    found: Sequence[Transport | Refused],
    spec: TransportSpec,
    method: str,
) -> PropertyTable:
    """Return one row a crystal: ``ok`` with its coefficients, or the reason why it has none.

    :returns: ``power_factor_over_tau`` and ``power_factor``, the greatest over carriers, doping and axes as the papers
        quote it, with ``seebeck`` there and ``best_carriers``, ``best_doping`` [1/cm^3], ``best_axis``; ``temperature``
        [K] and ``tau`` [s]; the curves against ``doping`` [1/cm^3], D x 3 along x, y, z flattened, of electrons
        (``…_n``) and holes (``…_p``): ``seebeck`` [uV/K], ``sigma_over_tau`` [S/m/s], ``kappa_electronic_over_tau``
        [W/m/K/s], ``power_factor_over_tau`` [uW/cm/K^2/s], and ``fermi_level`` [eV], D, from the middle of the gap;
        ``gap`` [eV] of the bands on their k-points; what was computed (``n_irreducible``, ``grid``) and how well
        (``misfit`` [eV]).
    """
    good = [None if isinstance(f, Refused) else f for f in found]
    best = [t and t.best for t in good]

    def at_best(name: str) -> list[float | None]:
        return [None if t is None else float(getattr(t.carriers[t.best[0]], name)[t.best[1:]]) for t in good]

    factor = at_best("power_factor")
    columns: dict[pa.Field, list[Any]] = {
        schema.property_field("power_factor_over_tau", method): factor,
        schema.property_field("power_factor", method): [None if f is None else f * spec.tau for f in factor],
        schema.property_field("seebeck", method): [None if s is None else abs(s) for s in at_best("seebeck")],
        pa.field("best_carriers", pa.string()): [b and b[0] for b in best],
        pa.field("best_doping", pa.float64()): [b and spec.doping[b[1]] for b in best],
        pa.field("best_axis", pa.string()): [b and AXES[b[2]] for b in best],
        pa.field("temperature", pa.float64()): [t and spec.temperature for t in good],
        pa.field("tau", pa.float64()): [t and spec.tau for t in good],
        pa.field("doping", _FLOATS): [t and list(spec.doping) for t in good],
        pa.field("gap", pa.float64()): [t and t.gap for t in good],
        pa.field("n_irreducible", _WHOLE): [t and t.n_irreducible for t in good],
        pa.field("grid", pa.list_(_WHOLE, 3)): [t and list(t.grid) for t in good],
        pa.field("misfit", pa.float64()): [t and t.misfit for t in good],
    }
    for kind in ("n", "p"):
        levels = [t and t.carriers[kind].fermi_level.tolist() for t in good]
        columns[pa.field(f"fermi_level_{kind}", _FLOATS)] = levels
        for name, attribute in CURVES.items():
            curves = [t and getattr(t.carriers[kind], attribute).ravel().tolist() for t in good]
            columns[pa.field(f"{name}_{kind}", _FLOATS)] = curves
    return PropertyTable(refusal_columns(rows, records, found, "bands")).with_columns(columns)
