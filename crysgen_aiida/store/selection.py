"""What a query found, as arrays, records or a pandas frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

#: pandas' type of each kind of column; all of them know missing values.
_PANDAS = {"number": "float64", "whole": "Int64", "flag": "boolean", "text": "object", "method": "object"}


@dataclass(frozen=True, eq=False)
class Selection:
    """Candidates and some of their columns.

    :param candidate_id: (n,) keys of the index; private to this index file, not for keeping.
    :param batch_id: (n,) batch of each.
    :param row: (n,) row of each in the relaxed set of its batch.
    :param columns: name to (n,) values: numbers as float64 with NaN where missing, whole numbers as int64 where none is
        missing, flags, text and methods as objects with None.
    :param kinds: name to number, whole, flag, text or method.
    :param units: name to unit, where there is one.
    :param relaxed: batch to the uuid of its relaxed set.
    :param emptied: if nothing was found, the sentence that says which constraint left nothing and how near it was.
    """

    candidate_id: np.ndarray
    batch_id: np.ndarray
    row: np.ndarray
    columns: Mapping[str, np.ndarray]
    kinds: Mapping[str, str]
    units: Mapping[str, str]
    relaxed: Mapping[int, str]
    emptied: str | None = None

    def __len__(self) -> int:
        return len(self.candidate_id)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @cached_property
    def address(self) -> np.ndarray:
        """The full address of each candidate: ``<uuid of the relaxed set>:<row>``."""
        pairs = zip(self.batch_id.tolist(), self.row.tolist(), strict=True)
        return np.array([f"{self.relaxed[batch]}:{row}" for batch, row in pairs], dtype=object)

    def _leading(self) -> dict[str, np.ndarray]:
        return {"address": self.address, "row": self.row}

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary a candidate, missing values as None."""
        listed = {name: _plain(values) for name, values in {**self._leading(), **self.columns}.items()}
        return [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]

    def frame(self) -> pd.DataFrame:
        """Return a pandas frame, one row a candidate."""
        import pandas as pd

        leading = {name: pd.Series(values) for name, values in self._leading().items()}
        return pd.DataFrame({**leading, **{name: self._series(name) for name in self.columns}})

    def _series(self, name: str) -> pd.Series:
        import pandas as pd

        values, kind = self.columns[name], self.kinds[name]
        if kind == "whole" and values.dtype != np.int64:
            return pd.Series(values).astype("Int64")
        return pd.Series(values, dtype=_PANDAS[kind])


@dataclass(frozen=True, eq=False)
class RankedSelection(Selection):
    """Candidates in the order of their rank, best first.

    :param scores: (n,) mean desirability in [0, 1].
    :param fronts: (n,) number of the Pareto front, 0 the best; all 0 unless ranked by fronts.
    :param funnel: what was asked and how many candidates were left after it, in order, first the number of all.
    :param notes: sentences about the ranking: values or uncertainties that many lack.
    """

    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    fronts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    funnel: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()

    @property
    def rank(self) -> np.ndarray:
        """The place of each, from 1."""
        return np.arange(1, len(self) + 1)

    def _leading(self) -> dict[str, np.ndarray]:
        return {"rank": self.rank, "score": self.scores, "front": self.fronts, **super()._leading()}


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype.kind != "f":
        return values.tolist()
    return [None if value != value else value for value in values.tolist()]
