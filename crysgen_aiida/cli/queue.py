"""The task queue of a stopped ZeroMQ broker, made to agree with the graph.

Submitting over ZeroMQ is fire and forget: a broker that dies before it has written the task to disk loses it, and the
process stays *created* for ever. Before a daemon is started again each active process must have exactly one task.
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
