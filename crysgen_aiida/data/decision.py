"""DecisionSet: the ranked rows of a decision, with the query that ranked them as metadata."""

from __future__ import annotations

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.table import PackedTable


class DecisionSet(PackedTable):
    """Rows in order of rank. Metadata: ``query`` (JSON), ``proposer``, ``funnel`` (JSON counts) and, in a campaign,
    ``budget_before`` and ``budget_after``. ``parent_row`` is the row of the relaxed crystals that was ranked."""

    kind = schema.DECISION
