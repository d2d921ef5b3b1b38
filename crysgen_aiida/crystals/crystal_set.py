"""CrystalSet: a columnar set of crystals, one a row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.table import PackedTable

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from typing_extensions import Self

#: A crystal as arrays: lattice rows (3, 3) [A], atomic numbers (n,), fractional coordinates (n, 3).
Arrays = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


class CrystalSet(PackedTable):
    """A set of crystals: ``lattice`` [A, row-major], ``numbers``, ``frac_coords`` and property columns."""

    kind = schema.CRYSTALS

    @classmethod
    def from_structures(
        cls,
        structures: Sequence[Structure | Arrays | None],
        *,
        reasons: Sequence[str | None] | None = None,
        columns: Mapping[pa.Field, Sequence[Any]] | None = None,
        parent_input: str | None = None,
        parent_rows: Iterable[int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Pack pymatgen structures. ``None`` makes a failed row, whose ``reasons`` entry must say why.

        :param structures: arrays are taken too: they give the same row as the structure made of them, and sooner.
        :param columns: further columns, keyed by Arrow field (:func:`~crysgen_aiida.crystals.schema.property_field`).
        :raises BadInput: if a structure is disordered or not finite, or a failed row has no reason.
        """
        n = len(structures)
        why = list(reasons) if reasons is not None else [None] * n
        payload: dict[str, list[Any]] = {
            k: [] for k in ("lattice", "numbers", "frac_coords", "reduced_formula", "n_atoms", "content_id")
        }
        for row, structure in enumerate(structures):
            values = _pack(structure, row)
            for key, store in payload.items():
                store.append(values.get(key))
        required = schema.required_schema(cls.kind)
        arrays = {k: pa.array(v, type=required.field(k).type) for k, v in payload.items()}
        status = [schema.STATUS_OK if s is not None else schema.STATUS_FAILED for s in structures]
        table = pa.table(
            {
                **arrays,
                "status": pa.array(status),
                "reason": pa.array(why, type=pa.string()),
                "parent_input": pa.array([parent_input] * n, type=pa.string()),
                "parent_row": pa.array(list(parent_rows) if parent_rows is not None else [None] * n, type=pa.int64()),
            }
        )
        packed = cls(table, metadata)
        return packed.with_columns(columns) if columns else packed

    def structure(self, row: int) -> Structure:
        """Return the crystal of ``row`` as a pymatgen structure.

        :raises BadInput: if the row holds no crystal; the message repeats its reason.
        """
        record = self.get(row)
        if record["lattice"] is None:
            raise BadInput(f"Row {row} holds no crystal: {record['reason']}")
        return structure_of(record["lattice"], record["numbers"], record["frac_coords"])

    def structures(self) -> list[Structure | None]:
        """Return every crystal, None where a row holds none."""
        # column by column: reading a row of a wide set costs more than building its crystal
        columns = zip(self.column("lattice"), self.column("numbers"), self.column("frac_coords"), strict=True)
        return [None if lattice is None else structure_of(lattice, z, frac) for lattice, z, frac in columns]


def content_id(lattice: np.ndarray, numbers: np.ndarray, frac_coords: np.ndarray) -> str:
    """Return a fingerprint of a crystal as written (16 hex digits): equal numbers to 1e-6 give equal ids.

    It identifies content, not the crystal: another cell or origin of the same crystal has another id.
    """
    lat = np.round(np.asarray(lattice, dtype=float).ravel(), 6) + 0.0
    frac = np.round(np.asarray(frac_coords, dtype=float).ravel(), 6) + 0.0
    data = lat.astype("<f8").tobytes() + np.asarray(numbers, dtype="<u1").tobytes() + frac.astype("<f8").tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _pack(crystal: Structure | Arrays | None, row: int) -> dict[str, Any]:
    if crystal is None:
        return {}
    if isinstance(crystal, tuple):
        from pymatgen.core import Composition

        lattice, numbers, frac = crystal
        composition = Composition(Counter(numbers.tolist()))
    else:
        if not crystal.is_ordered:
            raise BadInput(f"The crystal of row {row} has partially occupied sites; order it first.")
        lattice, frac, composition = crystal.lattice.matrix, crystal.frac_coords, crystal.composition
        numbers = np.array([site.specie.Z for site in crystal])
    if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
        raise BadInput(f"The crystal of row {row} has a coordinate that is not a finite number.")
    return {
        "lattice": lattice.ravel().tolist(),
        "numbers": numbers.tolist(),
        "frac_coords": frac.ravel().tolist(),
        "reduced_formula": composition.reduced_formula,
        "n_atoms": len(numbers),
        "content_id": content_id(lattice, numbers, frac),
    }


def structure_of(lattice: list[float], numbers: list[int], frac_coords: list[float]) -> Structure:
    """Return the pymatgen structure of a row: 9 numbers of the lattice rows [A], n atomic numbers, 3 n coordinates."""
    from pymatgen.core import Lattice, Structure

    frac = np.array(frac_coords, dtype=float).reshape(-1, 3)
    return Structure(Lattice(np.array(lattice).reshape(3, 3)), numbers, frac)  # type: ignore[arg-type]
