"""Kill the daemon's processes at random times: everything still ends [0], each unit of work is done once.

AiiDA may start a submit script twice after a crash; the worker's lock makes one of the two do nothing. So work is
counted, from the worker's journal, and not starts. Final content hashes are compared with an undisturbed run's.

    python benchmarks/faults.py --kills 20 [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

KINDS = ("circus", "broker", "worker", "all")
PHASES = ("submission", "run")

#: Rows of a job and of its parts (fixed by the generator): so many units of work.
ROWS, PART_ROWS = 2560, 64
UNITS = ROWS // PART_ROWS
JOBS = 3


@dataclass
class Trial:
    """One kill and what came of it."""

    kind: str
    phase: str
    delay: float
    killed: int
    jobs: int
    processes: int
    ended_ok: int
    units_once: int
    hashes_equal: int
    starts: int
    restarts: int
    seconds: float


def undisturbed(code: Any, generator: Any) -> dict[int, str]:
    """Return the content hash of each job's output when nothing is killed."""
    from aiida.engine import run_get_node

    hashes = {}
    for seed in range(JOBS):
        node = run_get_node(builder(code, generator, seed))[1]
        assert node.is_finished_ok, node.exit_message
        hashes[seed] = node.outputs.sequences.content_hash
    return hashes


def builder(code: Any, generator: Any, seed: int) -> Any:
    """Return a cheap job of many units: sampling in its restart chain."""
    from aiida import orm

    from crysgen_aiida.workchains.base import SampleBaseWorkChain

    made: Any = SampleBaseWorkChain.get_builder()
    made.sample.code = code
    made.sample.generator = generator
    made.sample.seed = orm.Int(seed)
    made.sample.parameters = orm.Dict({"n": ROWS, "conditions": {}})
    made.sample.metadata.options.device = "cpu"
    made.sample.metadata.disable_cache = True
    return made


def run_trial(
    profile: str, code: Any, generator: Any, hashes: dict[int, str], kind: str, phase: str, delay: float
) -> Trial:
    """Submit the jobs, kill in between, bring the daemon back, and check what the jobs made."""
    from crysgen_aiida.cli.processes import start_daemon

    start_daemon(profile, 2)
    _reconnect()
    began, killed = time.monotonic(), []
    timer = threading.Timer(delay, lambda: killed.extend(kill(profile, kind)))
    if phase == "submission":
        timer.start()
    nodes = [_submit(profile, builder(code, generator, seed)) for seed in range(JOBS)]
    if phase == "run":
        timer.start()
    timer.join()
    restarts = _settle(profile, nodes)
    checked = [check(node, hashes[seed]) for seed, node in enumerate(nodes)]
    processes = [n for node in nodes for n in (node, *node.called_descendants)]
    return Trial(
        kind=kind,
        phase=phase,
        delay=round(delay, 2),
        killed=len(killed),
        jobs=len(nodes),
        processes=len(processes),
        ended_ok=sum(node.exit_status == 0 for node in processes),
        units_once=sum(c["once"] for c in checked),
        hashes_equal=sum(c["equal"] for c in checked),
        starts=sum(c["starts"] for c in checked),
        restarts=restarts,
        seconds=round(time.monotonic() - began, 1),
    )


def kill(profile: str, kind: str) -> list[int]:
    """Kill -9 one process of the profile's daemon, or all of them; return the pids."""
    from crysgen_aiida.cli.processes import inspect

    state = inspect(profile)
    broker = [state.broker.pid] if state.broker is not None and state.broker.pid else []
    circus = [state.circus] if state.circus else []
    pids = {"circus": circus, "broker": broker, "worker": list(state.workers[:1])}.get(
        kind, [*circus, *broker, *state.workers]
    )
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def check(node: Any, expected: str) -> dict[str, Any]:
    """Return whether every unit was done once over all jobs of a chain, and whether the result is the expected one.

    A job without a folder was cut off before it could be written; it has done nothing.
    """
    from aiida.orm import CalcJobNode

    done: Counter[tuple[str, int, int]] = Counter()
    starts = 0
    jobs = [n for n in node.called_descendants if isinstance(n, CalcJobNode) and n.get_remote_workdir()]
    for folder in (Path(job.get_remote_workdir()) for job in jobs):
        lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        done.update((u["stage"], u["start"], u["stop"]) for u in lines if not u.get("from_parent"))
        starts += (folder / "crysgen.log").read_text().count("crysgen-worker: ")
    once = len(done) == UNITS and set(done.values()) == {1}
    equal = node.is_finished_ok and node.outputs.sequences.content_hash == expected
    return {"once": once, "equal": equal, "starts": starts}


def _submit(profile: str, made: Any, patience: float = 60.0) -> Any:
    """Submit, as a user does who is told that the daemon is not running: start it and try again."""
    from aiida.engine import submit

    deadline = time.monotonic() + patience
    while True:
        try:
            return submit(made)
        except Exception as error:
            if time.monotonic() > deadline:
                raise
            print(f"    submit said: {str(error).splitlines()[0][:110]}", flush=True)
            revive(profile)


def _settle(profile: str, nodes: list[Any], patience: float = 240.0) -> int:
    """Bring the daemon back and wait for the jobs; return how often it had to be started."""
    revive(profile)
    restarts, deadline, last = 1, time.monotonic() + patience, time.monotonic()
    states = _states(nodes)
    while not all(n.is_terminated for node in nodes for n in (node, *node.called_descendants)):
        if time.monotonic() > deadline:
            late = [n for node in nodes for n in (node, *node.called_descendants) if not n.is_terminated]
            raise TimeoutError(f"not ended: {[(n.pk, str(n.process_state), n.process_status) for n in late]}")
        time.sleep(0.5)
        now = _states(nodes)
        if now != states:
            states, last = now, time.monotonic()
        elif time.monotonic() - last > 40.0:
            revive(profile)  # what `crysgen doctor` says when nothing moves
            restarts, last = restarts + 1, time.monotonic()
    return restarts


def _states(nodes: list[Any]) -> list[Any]:
    return [(str(n.process_state), n.mtime) for node in nodes for n in (node, *node.called_descendants)]


def revive(profile: str) -> None:
    """Stop what is left and start again: what a user does who sees that nothing moves."""
    from crysgen_aiida.cli.processes import start_daemon, stop_daemon

    stop_daemon(profile)
    start_daemon(profile, 2)
    _reconnect()


def _reconnect() -> None:
    """Forget this process's connection to a broker that may be gone; a command of its own would have none."""
    from aiida.manage import get_manager

    manager = get_manager()
    manager.reset_runner()
    manager.reset_broker()


def plan(kills: int, seed: int, span: float = 4.0) -> list[tuple[str, str, float]]:
    """Return kind, phase and delay of each kill; every second one comes during submission."""
    rng = random.Random(seed)
    return [(KINDS[i % len(KINDS)], PHASES[(i // len(KINDS) + i) % 2], rng.uniform(0.0, span)) for i in range(kills)]


def main() -> int:
    """Run the kills in a profile of their own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cg", dir="/tmp") as home:
        os.environ["AIIDA_PATH"] = home
        trials = _in_profile(
            Path(home), lambda *given: _run(*given, plan(arguments.kills, arguments.seed), _print_trial)
        )
    figures = summary(trials)
    for name, figure in figures.items():
        print(f"{name:<28} {figure['value']:>8} {figure['unit']:<10} bar {figure['bar']:<8} met {figure['met']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(f["met"] for f in figures.values()) else 1


def summary(trials: list[Trial]) -> dict[str, dict[str, Any]]:
    """Return the figures with their bars."""
    jobs = sum(t.jobs for t in trials)

    def share(name: str, total: int = jobs) -> dict[str, Any]:
        count = sum(getattr(t, name) for t in trials)
        return {"value": count, "unit": f"of {total}", "interval": None, "bar": total, "met": count == total}

    half = len(trials) // 2
    during = sum(t.phase == "submission" for t in trials)
    return {
        "kills": {"value": len(trials), "unit": "kills", "interval": None, "bar": 1, "met": bool(trials)},
        "kills during submission": {
            "value": during, "unit": "kills", "interval": None, "bar": half, "met": during >= half
        },
        "processes ended [0]": share("ended_ok", sum(t.processes for t in trials)),
        "jobs with each unit once": share("units_once"),
        "jobs with equal hashes": share("hashes_equal"),
    }  # fmt: skip


def _run(
    profile: str, code: Any, generator: Any, kills: list[tuple[str, str, float]], tell: Callable[[Trial], None]
) -> list[Trial]:
    hashes = undisturbed(code, generator)
    trials = []
    for kind, phase, delay in kills:
        trials.append(run_trial(profile, code, generator, hashes, kind, phase, delay))
        tell(trials[-1])
    return trials


def _print_trial(trial: Trial) -> None:
    print("  ".join(f"{k}={v}" for k, v in asdict(trial).items()), flush=True)


def _in_profile(home: Path, work: Callable[[str, Any, Any], list[Trial]]) -> list[Trial]:
    sixth = home / "sixth"
    source = shutil.copytree(ROOT / "tests" / "sixth_generator", home / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(sixth), str(source)], check=True)
    os.environ["PYTHONPATH"] = str(sixth)
    sys.path.insert(0, str(sixth))
    from crysgen_aiida.cli.processes import stop_daemon
    from crysgen_aiida.cli.setup import default_code, ensure_all

    profile = ensure_all("faults").profile
    try:
        return work(profile, default_code(), trained(default_code()))
    finally:
        stop_daemon(profile)


def trained(code: Any) -> Any:
    """Return a generator of the sixth kind trained on two crystals."""
    from aiida import orm
    from aiida.engine import run_get_node
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.calculations.verbs import PrepareCalculation, TrainCalculation
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    cells = [Structure(Lattice.cubic(4.0), pair, [[0, 0, 0], [0.5, 0.5, 0.5]]) for pair in (["Cs", "Cl"], ["Tl", "Br"])]
    common = {"code": code, "generator_name": orm.Str("exchange"), "metadata": {"options": {"device": "cpu"}}}
    crystals = CrystalSetData.get_or_create(CrystalSet.from_structures(cells))
    prepared = run_get_node(PrepareCalculation, crystals=crystals, **common)[1]
    node = run_get_node(TrainCalculation, training_set=prepared.outputs.training_set, **common)[1]
    assert node.is_finished_ok, node.exit_message
    return node.outputs.generator


if __name__ == "__main__":
    sys.exit(main())
