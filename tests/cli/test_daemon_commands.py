"""The daemon under hard kills: what is left is seen, named by the doctor, and cleared by pid at the next start."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from cli_commands import run_in

from crysgen_aiida.cli.processes import _names_profile, _role


def test_roles_are_read_from_command_lines() -> None:
    verdi = ["/x/python", "/x/verdi", "-p", "crysgen", "daemon"]
    assert _role([*verdi, "worker"]) == "worker"
    assert _role([*verdi, "start-circus", "1"]) == "circus"
    assert _role([*verdi, "broker", "--service-dir", "x"]) == "broker"
    assert _role(["python", "-c", "from circus import stats; stats.main()"]) == "stats"
    assert _role([*verdi, "status"]) is None
    assert _role(["vim", "daemon", "notes"]) is None
    assert _names_profile(verdi, "crysgen")
    assert not _names_profile(verdi, "crys")


@pytest.mark.slow
@pytest.mark.daemon
def test_a_killed_daemon_is_diagnosed_and_repaired(home: Path) -> None:
    run_in(home, "crysgen", "setup")
    run_in(home, "crysgen", "daemon", "status", code=3)
    daemon = _finding(home, "daemon")
    assert (daemon["status"], daemon["fix"]) == ("fail", "run `crysgen daemon start`")
    assert "started with 1 worker" in run_in(home, "crysgen", "daemon", "start")
    try:
        first = _status(home, 0)
        assert first["consuming"]
        assert "runs already" in run_in(home, "crysgen", "daemon", "start")
        os.kill(first["circus_pid"], signal.SIGKILL)
        time.sleep(0.5)
        orphaned = _status(home, 3)
        assert len(orphaned["orphan_pids"]) == 3  # worker, broker, statistics
        assert "leftover" in _finding(home, "daemon")["detail"]
        assert "started anew" in run_in(home, "crysgen", "daemon", "start")
        assert all(_gone(pid) for pid in orphaned["orphan_pids"])
        second = _status(home, 0)
        assert second["consuming"]
        assert not second["orphan_pids"]
    finally:
        run_in(home, "crysgen", "daemon", "stop")
    assert _gone(second["circus_pid"])
    assert "was not running" in run_in(home, "crysgen", "daemon", "stop")
    assert not list(home.glob(".aiida/broker/*/broker.pid"))


def test_a_lost_task_is_queued_again_and_a_stale_one_dropped(aiida_profile, worker_code, salts, tmp_path: Path) -> None:
    import uuid

    from aiida import orm
    from aiida.brokers.zeromq.queue import PersistentQueue
    from plumpy.process_comms import create_continue_body

    from crysgen_aiida.cli.queue import reconcile

    def process(state: str) -> int:
        node = orm.CalcJobNode(computer=worker_code.computer)
        node.set_process_state(state)
        return node.store().pk

    kept, lost, ended = process("waiting"), process("created"), process("finished")
    queue = PersistentQueue(tmp_path)
    for pk in (kept, kept, ended):
        queue.push(uuid.uuid4().hex, {"body": create_continue_body(pid=pk, nowait=True), "no_reply": True})
    others = _unfinished() - {kept, lost}
    assert reconcile(aiida_profile.name, tmp_path) == (1 + len(others), 2)
    queued = sorted(task["body"]["args"]["pid"] for _, task in PersistentQueue(tmp_path).get_all_pending())
    assert queued == sorted({kept, lost} | others)
    assert reconcile(aiida_profile.name, tmp_path) == (0, 0)
    for pk in (kept, lost):
        orm.load_node(pk).set_process_state("killed")


def _unfinished() -> set[int]:
    from aiida import orm

    states = {"attributes.process_state": {"in": ["created", "waiting", "running"]}}
    found: set[int] = set()
    for kind in (orm.CalcJobNode, orm.WorkChainNode):
        found |= set(orm.QueryBuilder().append(kind, filters=states, project="id").all(flat=True))
    return found


def _status(home: Path, code: int) -> dict:
    said = run_in(home, "crysgen", "daemon", "status", "--format", "json", code=code)
    return json.loads(said[said.index("{") :])


def _gone(pid: int, patience: float = 15.0) -> bool:
    """Whether the process ends within a while: an ended one may wait a moment for its parent to notice."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def _finding(home: Path, check: str) -> dict:
    said = run_in(home, "crysgen", "doctor", "--patience", "1", "--format", "json", code=1)
    return next(f for f in json.loads(said[said.index("[") :]) if f["check"] == check)
