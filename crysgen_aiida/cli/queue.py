"""The task queue of a daemon that does not run, made to agree with the graph.

Submitting over ZeroMQ is fire and forget: a broker that dies before it has written the task to disk loses it, and the
process stays *created* for ever; a RabbitMQ server whose disk was lost or replaced comes back empty. Before a daemon is
started again each active process must have exactly one task.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any


def reconcile(profile: str, tasks_folder: Path) -> tuple[int, int]:
    """Give every active process of ``profile`` one task, and drop tasks of others; the broker must not be running.

    Processes of functions are left alone: they live and die with the interpreter that called them.

    :return: how many tasks were added and how many dropped.
    """
    from aiida.brokers.zeromq.queue import PersistentQueue
    from aiida.manage.configuration import profile_context
    from plumpy.process_comms import create_continue_body

    with profile_context(profile, allow_switch=True):
        active = _active()
    queue = PersistentQueue(tasks_folder)  # moves what was being processed back to what is pending
    held: set[int] = set()
    dropped = 0
    for task_id, task in queue.get_all_pending():
        pk = _process_of(task)
        if pk is None:
            continue  # not about continuing a process: none of ours
        if pk in held or pk not in active:
            queue.remove_pending(task_id)
            dropped += 1
        held.add(pk)
    lost = sorted(active - held)
    for pk in lost:
        queue.push(uuid.uuid4().hex, {"body": create_continue_body(pid=pk, nowait=True), "no_reply": True})
    return len(lost), dropped


def reconcile_rabbitmq(profile: str) -> tuple[int, int]:
    """Do the same on a profile's RabbitMQ server; no worker may listen there.

    :return: how many tasks were added and how many dropped.
    """
    from aiida.engine.processes.control import iterate_process_tasks
    from aiida.manage import get_manager
    from aiida.manage.configuration import profile_context

    with profile_context(profile, allow_switch=True):
        broker = get_manager().get_broker()
        assert broker is not None
        active = _active()
        held: set[int] = set()
        dropped = 0
        for task in iterate_process_tasks(broker):
            pk = _process_of({"body": task.body})
            if pk is None:
                continue
            if pk in held or pk not in active:
                with task.processing() as outcome:  # acknowledged: it leaves the queue
                    outcome.set_result(False)
                dropped += 1
            held.add(pk)
        lost = sorted(active - held)
        controller = get_manager().get_process_controller()
        for pk in lost:
            controller.continue_process(pk, nowait=True, no_reply=True)
    return len(lost), dropped


def _active() -> set[int]:
    from aiida import orm

    unfinished = {"attributes.process_state": {"in": ["created", "waiting", "running"]}}
    found: set[int] = set()
    for kind in (orm.CalcJobNode, orm.WorkChainNode):
        found |= set(orm.QueryBuilder().append(kind, filters=unfinished, project="id").all(flat=True))
    return found


def _process_of(task: dict[str, Any]) -> int | None:
    body = task.get("body")
    pk = body.get("args", {}).get("pid") if isinstance(body, dict) else None
    return int(pk) if isinstance(pk, int) else None
