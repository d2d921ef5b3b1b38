"""Explanations read off an index on PostgreSQL are those read off one on SQLite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from service_homes import servers
from sync_graphs import judged_table, make_run, relaxed_set, results_table, sequence_set

from crysgen_aiida.store.explain import funnel, methods, runs, show, stats, why
from crysgen_aiida.store.index.database import Index

RULE = {
    "constraints": [["status", "==", "ok"], ["valid_structure", "==", True]],
    "objectives": {"e_above_reference": "lower", "band_gap": {"direction": "target", "target": 1.5}},
    "method": "pareto",
    "diversity": {"formula": 3},
}


@pytest.fixture(scope="module")
def made(aiida_profile: Any) -> Any:
    """A run of 20 candidates, one of them verified."""
    decoded, sequences = relaxed_set(20, 52, failed=(2,)), sequence_set(20, 1.5)
    run = make_run(relaxed_set(20, 51, failed=(4, 9)), judged_table(20, 51), decoded=decoded, sequences=sequences,
                   design=True, label="on both databases")  # fmt: skip
    row = {"address": f"{run.relaxed.uuid}:3", "property": "band_gap", "unit": "eV", "value": 1.25, "uncertainty": 0.1}
    results_table([{**row, "method": "pbe-mp2020"}])
    return run


@pytest.fixture(scope="module")
def both(made: Any, services: servers.Services, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two indices of the test profile."""
    from crysgen_aiida.store.sync import sync

    at = f"postgresql://postgres:{services.postgres_password}@127.0.0.1:{services.postgres_port}"
    with psycopg.connect(f"{at}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE of_explain LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    file = tmp_path_factory.mktemp("explain") / "lite.sqlite"
    held = Index.open(f"{at}/of_explain", "crysgen"), Index.open(f"sqlite:///{file}")
    for index in held:
        sync(index)
    yield held
    for index in held:
        index.close()


@pytest.mark.parametrize(
    "asked",
    [
        stats.stats,
        runs.summaries,
        methods.standing,
        lambda index: funnel.of_run(index, runs.find_run(index, "on both databases")),
        lambda index: runs.list_runs(index)[0].ranking,
    ],
    ids=["stats", "summaries", "methods", "funnel", "rule"],
)
def test_counts_are_the_same(both: Any, asked: Callable[[Index], Any]) -> None:
    one, other = (asked(index) for index in both)
    assert one == other


@pytest.mark.parametrize("row", range(0, 20, 3))
def test_a_candidate_is_told_the_same(both: Any, made: Any, row: int) -> None:
    address = f"{made.relaxed.uuid}:{row}"
    one, other = (show.show(index, address) for index in both)
    assert one == other
    assert any(p["method"] == "pbe-mp2020" and p["current"] for p in one["properties"]) == (row == 3)
    one, other = (why.why(index, address, RULE, ["elements has any (Na, Ga, Bi)"]) for index in both)
    assert one == other
