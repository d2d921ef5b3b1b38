"""Synchronise a profile's index, ask it, and print the answers as JSON: run for either kind of profile alike.

python answers.py PROFILE < questions.json
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Answer ``{"filters": [text], "rankings": [{"query": …, "where": …}]}``."""
    from aiida.manage.configuration import load_profile
    from sqlalchemy import select

    from crysgen_aiida.store.index.models import Batch
    from crysgen_aiida.store.location import open_index
    from crysgen_aiida.store.query import rank_candidates, select_candidates
    from crysgen_aiida.store.sync import sync

    load_profile(sys.argv[1])
    asked: dict[str, Any] = json.load(sys.stdin)
    index = open_index(sys.argv[1])
    first, again = sync(index), sync(index)
    with index.read() as connection:
        batches = sorted(connection.execute(select(Batch.key)).scalars())
    filters, rankings = {}, []
    for text in asked.get("filters", []):
        found = select_candidates(index, text)
        filters[text] = {"records": found.records(), "emptied": found.emptied}
    for ranking in asked.get("rankings", []):
        best = rank_candidates(index, ranking["query"], where=ranking["where"], prefer=ranking.get("prefer"))
        funnel = [list(step) for step in best.funnel]
        rankings.append({"records": best.records(), "funnel": funnel, "notes": best.notes, "emptied": best.emptied})
    everything = select_candidates(index, columns=["*"]).records()
    answers = {
        "synchronised": [first.rows, again.rows, again.changed],
        "where": index.where,
        "fingerprint": index.fingerprint(),
        "batches": batches,
        "columns": {name: [c.kind, c.unit, c.is_property] for name, c in index.columns().items()},
        "methods": sorted(index.methods()),
        "everything": everything,
        "filters": filters,
        "rankings": rankings,
    }
    print(json.dumps(answers, sort_keys=True))


if __name__ == "__main__":
    main()
