"""RowScaler: every row of the matrices to the range 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import BadInput, EmptySet

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class RowScaler:
    """The smallest and the largest number of each row of the matrices, over crystals and columns.

    As published, one range serves the left and the right block of a row, and a row whose numbers are all equal becomes
    0. The published code fits it on all data before it splits them; fit it on the training rows instead.
    """

    minimum: npt.NDArray[np.float32]  #: (rows,)
    maximum: npt.NDArray[np.float32]  #: (rows,)

    @classmethod
    def fit(cls, matrices: npt.NDArray[np.float32], rows: npt.ArrayLike | None = None) -> Self:
        """Fit matrices (n, rows, columns).

        :param rows: which of the n, by index or mask; all by default.
        :raises EmptySet: if there are none.
        :raises BadInput: if a number is not finite.
        """
        if rows is None:
            return cls.fit_parts([matrices])
        chosen = np.asarray(rows)
        return cls.fit_parts([matrices[chosen]] if chosen.size else [])

    @classmethod
    def fit_parts(cls, parts: Iterable[npt.NDArray[np.float32]]) -> Self:
        """Fit matrices that come in parts, because together they take gigabytes; errors as :meth:`fit`."""
        smallest, largest = [], []
        for part in parts:
            if len(part):
                smallest.append(part.min(axis=(0, 2)))
                largest.append(part.max(axis=(0, 2)))
        if not smallest:
            raise EmptySet("There are no matrices to fit a scaler on; check the training rows.")
        minimum, maximum = np.min(smallest, axis=0), np.max(largest, axis=0)
        wrong = np.flatnonzero(~(np.isfinite(minimum) & np.isfinite(maximum)))
        if len(wrong):
            raise BadInput(f"Row {wrong[0]} of a matrix holds a number that is not finite; leave that crystal out.")
        return cls(minimum.astype(np.float32), maximum.astype(np.float32))

    def transform(self, matrices: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return scaled matrices, float32; those the scaler was not fitted on may leave the range 0 to 1."""
        self._check(matrices)
        scaled = (matrices - self.minimum[:, None]) / self._span
        return scaled.astype(np.float32, copy=False)

    def inverse(self, matrices: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what :meth:`transform` was given, to a part in 10^6 of the range of each row."""
        self._check(matrices)
        return (matrices * self._span + self.minimum[:, None]).astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the scaler as plain lists, for JSON; exact."""
        return {"minimum": self.minimum.tolist(), "maximum": self.maximum.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned.

        :raises BadInput: if that is not a scaler.
        """
        try:
            minimum, maximum = (np.array(values[key], dtype=np.float32) for key in ("minimum", "maximum"))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"This is no scaler of rows ({error}); it needs lists 'minimum' and 'maximum'.") from error
        if minimum.ndim != 1 or minimum.shape != maximum.shape or not (minimum <= maximum).all():
            raise BadInput("This is no scaler of rows: 'minimum' must be a list, not above 'maximum', of equal length.")
        return cls(minimum, maximum)

    @property
    def _span(self) -> npt.NDArray[np.float32]:
        span = self.maximum - self.minimum
        return np.where(span > 0, span, np.float32(1))[:, None]

    def _check(self, matrices: npt.NDArray[np.float32]) -> None:
        if matrices.ndim != 3 or matrices.shape[1] != len(self.minimum):
            raise BadInput(
                f"The scaler knows {len(self.minimum)} rows, but the matrices have the shape {matrices.shape}; "
                "use the scaler that belongs to their spec."
            )
