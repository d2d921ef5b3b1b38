"""Many decoded crystals relaxed in one job, one job each, and one by one with ASE: cost, energies, resumption.

    python benchmarks/relaxation.py [--full] [--home DIR] [--json FILE]

Crystals are decoded strings of the starter generator. They are relaxed through AiiDA with a daemon in a profile of
their own: all in one job of two threads, some in a job each (two at a time), and all again in a restart chain whose
worker is killed (-9) on the way. ASE relaxes some with FIRE, ``FrechetCellFilter`` and CHGNet's own calculator, to the
same force limit and number of steps, in processes of one and of two threads; loading the model is not counted there.
Quick: 48 crystals; ``--full``: 200. Ratios are of processor seconds, which a busy machine changes little; wall seconds
beside. What is finished is kept in ``--home`` (its path must be short, for the daemon's sockets) and not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Figures = dict[str, dict[str, Any]]
STRINGS, SEED = 1.35, 5  # strings a crystal wanted: some do not decode
CLOSE = 5.0  # [meV/atom]
ASE = Path(__file__).with_name("relaxation_ase.py")


def figure(value: float, unit: str, bar: str = "-", met: bool | None = None, n: tuple[int, int] | None = None) -> Any:
    """Return one figure in the form all benchmarks use; ``n`` is a share's numerator and denominator."""
    from crysgen_aiida.screening.statistics import wilson

    interval = None if n is None else [round(x, 4) for x in wilson(*n)]
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": bar, "met": met}


def share(yes: int, of: int, bar: str = "-", met: bool | None = None) -> Any:
    """Return a share as a figure."""
    return figure(yes / of if of else float("nan"), f"share of {of}", bar, met, (yes, of))


def by_ase(path: Path, rows: int, threads: int, out: Path) -> None:
    """Have a process of its own relax the first rows of a set."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, str(ASE), str(path), str(rows), str(threads), str(out)]
    subprocess.run(command, check=True, env=environment)


# -- through AiiDA ----------------------------------------------------------------------------------------------------


class Line:
    """A profile of its own with a daemon, and decoded crystals."""

    def __init__(self, n: int, home: Path) -> None:
        from crysgen_aiida.cli.processes import start_daemon
        from crysgen_aiida.cli.setup import default_code, ensure_all
        from crysgen_aiida.crystals.crystal_set import CrystalSet
        from crysgen_aiida.data.packed import CrystalSetData

        self.profile = ensure_all("relaxation").profile
        self.code = default_code()
        path = home / "crystals.parquet"
        if not path.exists():
            self.decoded(n).write(path)
        self.crystals = CrystalSetData.get_or_create(CrystalSet.read(path))
        start_daemon(self.profile, 1)

    def decoded(self, n: int) -> Any:
        """Return crystals decoded from strings of the starter generator."""
        from aiida.engine import run_get_node

        from crysgen_aiida.calculations.verbs import DecodeCalculation, SampleCalculation
        from crysgen_aiida.cli.starter import import_starter

        common = {"code": self.code, "metadata": {"options": {"device": "cpu"}}}
        generator = import_starter().generator
        parameters = {"n": int(n * STRINGS), "conditions": {}}
        drawn = run_get_node(SampleCalculation, generator=generator, parameters=parameters, seed=SEED, **common)[1]
        made = run_get_node(
            DecodeCalculation, sequences=drawn.outputs.sequences, generator_name=generator.generator, **common
        )[1].outputs.crystals.table
        rows = np.flatnonzero(made.ok)[:n]
        assert len(rows) == n, f"only {len(rows)} of {len(made)} strings became crystals"
        return made.take(rows.tolist())

    def job(self, crystals: Any, threads: int, **relax: Any) -> Any:
        """Submit one job; return its node."""
        from aiida.engine import submit

        from crysgen_aiida.calculations.verbs import RelaxCalculation

        builder: Any = RelaxCalculation.get_builder()
        self.fill(builder, crystals, threads, relax)
        return submit(builder)

    def fill(self, builder: Any, crystals: Any, threads: int, relax: dict[str, Any]) -> None:
        """Fill in a job that says when it ends what it took."""
        from aiida import orm

        builder.code, builder.crystals = self.code, crystals
        builder.parameters = orm.Dict({"relax": relax} if relax else {})
        builder.metadata.options = {"device": "cpu", "threads": threads, "append_text": "times > times.txt"}
        builder.metadata.disable_cache = True

    def daemon_seconds(self) -> float:
        """Return the processor seconds of the daemon's processes so far, without those of jobs."""
        import psutil

        from crysgen_aiida.cli.processes import inspect

        state = inspect(self.profile)
        pids = [*state.workers, *([state.circus] if state.circus else [])]
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def job_seconds(node: Any) -> float:
    """Return the processor seconds of a finished job, from the shell that ran it."""
    text = (Path(node.get_remote_workdir()) / "times.txt").read_text().splitlines()[1]
    return sum(60 * float(m) + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", text))


def wait(nodes: list[Any], limit: float = 3600.0) -> None:
    """Wait for processes to end."""
    deadline = time.monotonic() + limit
    while not all(node.is_terminated for node in nodes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ended: {[n.pk for n in nodes if not n.is_terminated]}")
        time.sleep(0.2)


def together(line: Line, path: Path, **relax: Any) -> dict[str, Any]:
    """Relax all crystals in one job; write them."""
    wall, daemon = time.monotonic(), line.daemon_seconds()
    node = line.job(line.crystals, 2, **relax)
    wait([node])
    assert node.is_finished_ok, node.exit_message
    took = {"wall": time.monotonic() - wall, "processor": job_seconds(node) + line.daemon_seconds() - daemon}
    node.outputs.crystals.table.write(path)
    return took


def one_each(line: Line, rows: list[int], **relax: Any) -> dict[str, Any]:
    """Relax crystals in a job each, two jobs at a time."""
    from crysgen_aiida.data.packed import CrystalSetData

    table = line.crystals.table
    sets = [CrystalSetData(table.take([row])).store() for row in rows]
    wall, daemon = time.monotonic(), line.daemon_seconds()
    nodes: list[Any] = []
    for crystals in sets:
        while sum(not node.is_terminated for node in nodes) >= 2:
            time.sleep(0.1)
        nodes.append(line.job(crystals, 1, **relax))
    wait(nodes)
    assert all(node.is_finished_ok for node in nodes)
    processor = sum(map(job_seconds, nodes)) + line.daemon_seconds() - daemon
    return {"n": len(rows), "wall": time.monotonic() - wall, "processor": processor}


def killed(line: Line, expected: str) -> Figures:
    """Kill the worker when half of its parts are done; count what was done twice."""
    from aiida.engine import submit

    from crysgen_aiida.physics.relaxation import PART_ROWS
    from crysgen_aiida.workchains.base import RelaxBaseWorkChain

    n = line.crystals.n_rows
    parts = -(-n // PART_ROWS)
    builder: Any = RelaxBaseWorkChain.get_builder()
    line.fill(builder.relax, line.crystals, 2, {})
    chain = submit(builder)
    pid = None
    while pid is None:
        time.sleep(0.1)
        for job in chain.called:
            journal = Path(job.get_remote_workdir() or "/nowhere") / "journal.jsonl"
            if journal.exists() and len(journal.read_text().splitlines()) >= parts // 2:
                pid = worker_in(journal.parent)
    os.kill(pid, signal.SIGKILL)
    wait([chain])
    assert chain.is_finished_ok, chain.exit_message
    jobs = [node for node in chain.called if node.get_remote_workdir()]
    done: Counter[int] = Counter()
    starts = 0
    for folder in (Path(job.get_remote_workdir()) for job in jobs):
        starts += (folder / "crysgen.log").read_text().count("crysgen-worker: ")
        for entry in map(json.loads, (folder / "journal.jsonl").read_text().splitlines()):
            if not entry.get("from_parent"):
                done.update(range(entry["start"], entry["stop"]))
    again = sum(count - 1 for count in done.values())
    equal = chain.outputs.crystals.content_hash == expected
    return {
        "kill -9: jobs of the chain": figure(len(jobs), "jobs", ">= 2", len(jobs) >= 2),
        "kill -9: finished rows computed again": figure(again, f"of {n} rows", "0", again == 0 and len(done) == n),
        "kill -9: rows under way when killed, at most": figure(PART_ROWS, f"of {n} rows"),
        "kill -9: same content as undisturbed": figure(equal, "1 = yes", "1", equal),
    }


def worker_in(folder: Path) -> int | None:
    """Return the pid of the worker that works in a folder."""
    import psutil

    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = process.info["cmdline"] or ["bash"]
        mine = process.info["cwd"] == str(folder) and "bash" not in command[0]
        if mine and any("crysgen-worker" in part for part in command):
            return int(process.pid)
    return None


# -- comparing --------------------------------------------------------------------------------------------------------


def compared(table: Any, ends: list[dict[str, Any]]) -> Figures:
    """Compare our energies with ASE's where both converged."""
    energies, steps = table.values("energy_per_atom"), table.values("n_steps")
    both = [e for e in ends if e.get("converged") and table.column("converged")[e["row"]]]
    apart = np.array([1000 * (energies[e["row"]] - e["energy"]) for e in both])
    near = int((np.abs(apart) <= CLOSE).sum())
    same = np.array([steps[e["row"]] == e["steps"] for e in both])
    far = [(e["row"], round(float(d), 1), int(steps[e["row"]]), e["steps"])
           for e, d in zip(both, apart, strict=True) if abs(d) > CLOSE]  # fmt: skip
    for row, difference, ours, theirs in far:
        lower = "lower" if difference < 0 else "higher"
        print(f"  row {row}: {abs(difference)} meV/atom {lower} than ASE, {ours} steps, ASE {theirs}", flush=True)
    failed = [e["row"] for e in ends if "reason" in e]
    return {
        "ASE: crystals converged in both": share(len(both), len(ends)),
        "ASE: refused there, of these failed here": share(sum(not table.ok[r] for r in failed), len(failed)),
        "energy within 5 meV/atom of ASE": share(near, len(both), ">= 0.95", near >= 0.95 * len(both)),
        "median difference to ASE": figure(np.median(apart), "meV/atom"),
        "difference to ASE above 5 meV/atom, lower here": figure(sum(d < 0 for _, d, _, _ in far), f"of {len(far)}"),
        "same number of steps as ASE": share(int(same.sum()), len(both)),
    }


def optimisers(table: Any, other: Any) -> Figures:
    """Compare L-BFGS with FIRE on all crystals."""
    n = len(table)
    a, b = (np.array([bool(x) for x in t.column("converged")]) for t in (table, other))
    both = a & b
    steps = [t.values("n_steps")[both] for t in (table, other)]
    apart = 1000 * (other.values("energy_per_atom") - table.values("energy_per_atom"))[both]
    result: Figures = {}
    for name, held, done, took in (("FIRE", table, a, steps[0]), ("L-BFGS", other, b, steps[1])):
        result |= {
            f"{name}: converged in 100 steps": share(int(done.sum()), n),
            f"{name}: failed": share(int((~held.ok).sum()), n),
            f"{name}: mean steps where both converged": figure(took.mean(), "steps"),
        }
    return result | {
        "FIRE steps over L-BFGS steps": figure(steps[0].sum() / steps[1].sum(), "x"),
        "L-BFGS within 5 meV/atom of FIRE": share(int((np.abs(apart) <= CLOSE).sum()), int(both.sum())),
        "L-BFGS lower by more than 5 meV/atom": share(int((apart < -CLOSE).sum()), int(both.sum())),
        "L-BFGS higher by more than 5 meV/atom": share(int((apart > CLOSE).sum()), int(both.sum())),
    }


class Study:
    """All stages; what was finished before is read from ``home``."""

    def __init__(self, home: Path, n: int, n_each: int, n_ase: int) -> None:
        self.home, self.n, self.n_ase = home, n, n_ase
        self.rows = list(range(0, n, n // n_each))[:n_each]

    def kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what a stage found."""
        path = self.home / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(compute()))
        held = json.loads(path.read_text())
        print(f"  {name}: { {k: v for k, v in held.items() if k in ('n', 'wall', 'processor')} }", flush=True)
        return held

    def table(self, name: str) -> Any:
        """Return the crystals of a stage."""
        from crysgen_aiida.crystals.crystal_set import CrystalSet

        return CrystalSet.read(self.home / f"{name}.parquet")

    def measure(self) -> Figures:
        """Return all figures."""
        from crysgen_aiida.cli.processes import stop_daemon

        line = Line(self.n, self.home)
        try:
            one = self.kept("fire", lambda: together(line, self.home / "fire.parquet"))
            each = self.kept("fire-each", lambda: one_each(line, self.rows))
            fast = self.kept("lbfgs", lambda: together(line, self.home / "lbfgs.parquet", optimizer="lbfgs"))
            fast_each = self.kept("lbfgs-each", lambda: one_each(line, self.rows, optimizer="lbfgs"))
            resumed = self.kept("killed", lambda: killed(line, self.table("fire").content_hash))
        finally:
            stop_daemon(line.profile)
        path = self.home / "crystals.parquet"
        for threads, rows in ((1, self.n_ase), (2, self.n_ase // 4)):
            if not (self.home / f"ase-{threads}.json").exists():
                by_ase(path, rows, threads, self.home / f"ase-{threads}.json")
        ase = {threads: self.kept(f"ase-{threads}", dict) for threads in (1, 2)}
        sample = line.crystals.table
        ours = {t: self.kept(f"here-{t}", lambda t=t: alone(sample.slice(range(len(ase[t]["ends"]))), t)) for t in ase}
        return {
            **per_job("FIRE", one, each, self.n),
            **per_job("L-BFGS", fast, fast_each, self.n),
            **against_ase(ase, ours),
            **compared(self.table("fire"), ase[1]["ends"]),
            **resumed,
            **optimisers(self.table("fire"), self.table("lbfgs")),
        }


def per_job(name: str, one: dict[str, Any], each: dict[str, Any], n: int) -> Figures:
    """Compare one job with one job each."""
    result: Figures = {}
    for kind, unit in (("processor", "processor s/crystal"), ("wall", "wall s/crystal")):
        cost, apart = one[kind] / n, each[kind] / each["n"]
        result |= {
            f"{name}, one job, {kind}": figure(cost, unit),
            f"{name}, one job each, {kind}": figure(apart, unit),
            f"{name}, one job each over one job, {kind}": figure(apart / cost, "x", ">= 10", apart >= 10 * cost),
        }
    return result


def against_ase(ase: dict[int, dict[str, Any]], ours: dict[int, dict[str, Any]]) -> Figures:
    """Compare one ASE process with this program on the same crystals, thread for thread."""
    result: Figures = {}
    for kind, unit in (("processor", "processor s/crystal"), ("wall", "wall s/crystal")):
        theirs, mine = ({t: held[t][kind] / len(ase[t]["ends"]) for t in ase} for held in (ase, ours))
        for t in ase:
            result[f"ASE, {t} thread(s), {kind}"] = figure(theirs[t], unit)
            result[f"here, {t} thread(s), {kind}"] = figure(mine[t], unit)
        ratio = min(theirs.values()) / min(mine.values())
        result[f"ASE over here, each at its best, {kind}"] = figure(ratio, "x", ">= 1.5", ratio >= 1.5)
    return result


def alone(crystals: Any, threads: int) -> dict[str, float]:
    """Relax crystals in this process, the model loaded before."""
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.relaxation import relax_set

    relax_set(crystals.take([0]), run=InProcess())
    began = time.monotonic(), time.process_time()
    relax_set(crystals, run=InProcess(threads=threads))
    return {"wall": time.monotonic() - began[0], "processor": time.process_time() - began[1]}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="200 crystals")
    parser.add_argument("--home", type=Path, help="folder that keeps what was computed")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory(prefix="cg", dir="/tmp") as passing:
        home = (options.home or Path(passing)).resolve()
        home.mkdir(parents=True, exist_ok=True)
        os.environ["AIIDA_PATH"] = str(home)  # before anything of AiiDA is imported
        figures = Study(home, *((200, 15, 40) if options.full else (48, 6, 12))).measure()
    width = max(map(len, figures))
    for name, held in figures.items():
        verdict = {True: "met", False: "NOT MET", None: ""}[held["met"]]
        span = "" if held["interval"] is None else "[{:.3f}, {:.3f}]".format(*held["interval"])
        print(f"{name:<{width}}  {held['value']:>10.4g} {held['unit']:<20} {span:<16} {held['bar']:<10} {verdict}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
