"""Reasons that rows carry, counted: which text column explains which verdict, and texts alike but for their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Suffix of a text column that explains others.
SUFFIX = "_reason"

#: Verdicts that are explained by a column of another name.
_ELSEWHERE = {"semiconductor": "band_gap_reason"}

#: Reasons kept one by one; the rest are counted together.
MOST = 8

#: What stands for the rest.
OTHERS = "other reasons"

_NUMBER = r"\b[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\b"
_FORMULA = r"\b(formula|judge|for) [A-Z][A-Za-z0-9.()]*"


def reason_column(verdict: str, columns: Iterable[str]) -> str | None:
    """Return the column that says why ``verdict`` is not true, or None if there is none.

    It is ``<verdict>_reason``, or one whose stem begins or ends the name: ``piezo_reason`` explains ``piezo_active``,
    ``novel_reason`` explains ``novel_against.training``, ``reference_reason`` explains ``near_reference``.
    """
    held = [name for name in columns if name.endswith(SUFFIX)]
    for name in (verdict + SUFFIX, _ELSEWHERE.get(verdict, "")):
        if name in held:
            return name
    stems = sorted((name.removesuffix(SUFFIX) for name in held), key=len, reverse=True)
    for stem in stems:
        if re.match(rf"{re.escape(stem)}[._]", verdict) or verdict.endswith(f"_{stem}"):
            return stem + SUFFIX
    return None


def why_not(verdict: str, judged: Mapping[str, Any]) -> str | None:
    """Return why a verdict on one row is not true, None if the row does not say.

    :param judged: the row of the table that judged it.
    """
    column = reason_column(verdict, judged)
    if column is not None and judged[column]:
        return str(judged[column])
    if verdict == "unique" and judged.get("duplicate_of") is not None:
        return f"the same structure as row {judged['duplicate_of']}"
    known = [(k.removeprefix("known_as."), v) for k, v in judged.items() if k.startswith("known_as.") and v is not None]
    hits = [
        f"row {row} of the known set {name!r}" for name, row in known if verdict in ("novel", f"novel_against.{name}")
    ]
    return f"the same structure as {' and '.join(hits)}" if hits else None


def template(reason: str) -> str:
    """Return a reason with its numbers and formulas left out, so that equal causes are counted together."""
    return re.sub(_NUMBER, "…", re.sub(_FORMULA, r"\1 …", reason))


def count_reasons(reasons: Any) -> dict[str, int]:
    """Return reason to number of rows, the most frequent first and ties by name; see :data:`MOST`.

    :param reasons: an Arrow array of text (nulls are not counted).
    """
    import pyarrow.compute as pc

    alike = pc.replace_substring_regex(reasons.drop_null(), _FORMULA, r"\1 …")
    alike = pc.replace_substring_regex(alike, _NUMBER, "…")
    counted = [(c["values"], int(c["counts"])) for c in pc.value_counts(alike).to_pylist()]
    counted.sort(key=lambda pair: (-pair[1], pair[0]))
    found = dict(counted[:MOST])
    if rest := sum(n for _, n in counted[MOST:]):
        found[OTHERS] = found.get(OTHERS, 0) + rest
    return found


def merge_reasons(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sum of counts of reasons, most frequent first."""
    total: dict[str, int] = {}
    for part in parts:
        for reason, n in part.items():
            total[reason] = total.get(reason, 0) + n
    return dict(sorted(total.items(), key=lambda pair: (pair[0] == OTHERS, -pair[1], pair[0])))
