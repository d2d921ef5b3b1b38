"""Many decoded crystals relaxed in one job, one job each, and one by one with ASE: cost, energies, resumption.

    python benchmarks/relaxation.py [--full] [--json FILE]

Crystals are decoded strings of the starter generator. They are relaxed through AiiDA with a daemon in a profile of
their own: all in one job of two threads, some in a job each (two at a time), and all again in a restart chain whose
worker is killed (-9) on the way. ASE relaxes some with FIRE, ``FrechetCellFilter`` and CHGNet's own calculator, to the
same force limit and number of steps, in processes of one and of two threads; loading the model is not counted there.
Quick: 48 crystals; ``--full``: 200. Ratios are of processor seconds, which a busy machine changes little; wall seconds
beside.
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
from pathlib import Path
from typing import Any

import numpy as np

Figures = dict[str, dict[str, Any]]
STRINGS, SEED = 1.35, 5  # strings a crystal wanted: some do not decode
CLOSE = 5.0  # [meV/atom]


def figure(value: float, unit: str, bar: str = "-", met: bool | None = None, n: tuple[int, int] | None = None) -> Any:
    """Return one figure in the form all benchmarks use; ``n`` is a share's numerator and denominator."""
    from crysgen_aiida.screening.statistics import wilson

    interval = None if n is None else [round(x, 4) for x in wilson(*n)]
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": bar, "met": met}


def share(yes: int, of: int, bar: str = "-", met: bool | None = None) -> Any:
    """Return a share as a figure."""
    return figure(yes / of if of else float("nan"), f"share of {of}", bar, met, (yes, of))


# -- one process with ASE ---------------------------------------------------------------------------------------------


def ase_alone(path: Path, rows: int, threads: int, out: Path) -> None:
    """Relax the first rows of a set with ASE and write energies, steps and seconds."""
    import torch
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from chgnet.model import CHGNet, CHGNetCalculator

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.physics.relaxation import RelaxSpec

    torch.set_num_threads(threads)
    crystals, spec = CrystalSet.read(path), RelaxSpec()
    calculator = CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    ends, began = [], (time.monotonic(), time.process_time())
    for row in range(rows):
        atoms = crystals.structure(row).to_ase_atoms()
        atoms.calc = calculator
        optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
        try:
            done = bool(optimiser.run(fmax=spec.fmax, steps=spec.max_steps))
            energy, volume = atoms.get_potential_energy() / len(atoms), atoms.get_volume() / len(atoms)
        except Exception as error:  # CHGNet refuses isolated atoms
            ends.append({"row": row, "reason": f"{type(error).__name__}: {error}"})
            continue
        ends.append(
            {"row": row, "energy": float(energy), "volume": float(volume), "steps": optimiser.nsteps, "converged": done}
        )
    seconds = {"wall": time.monotonic() - began[0], "processor": time.process_time() - began[1]}
    out.write_text(json.dumps({"ends": ends, **seconds}))


def by_ase(crystals: Any, rows: int, threads: int, home: Path) -> dict[str, Any]:
    """Return what a process of its own says."""
    path, out = home / "crystals.parquet", home / f"ase-{threads}.json"
    crystals.write(path)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--ase", str(path), str(rows), str(threads), str(out)]
    subprocess.run(command, check=True, env=environment)
    held: dict[str, Any] = json.loads(out.read_text())
    return held


# -- through AiiDA ----------------------------------------------------------------------------------------------------


class Line:
    """A profile of its own with the starter generator, a daemon and decoded crystals."""

    def __init__(self, n: int) -> None:
        from aiida.engine import run_get_node

        from crysgen_aiida.calculations.verbs import DecodeCalculation, SampleCalculation
        from crysgen_aiida.cli.processes import start_daemon
        from crysgen_aiida.cli.setup import default_code, ensure_all
        from crysgen_aiida.cli.starter import import_starter
        from crysgen_aiida.data.packed import CrystalSetData

        self.profile = ensure_all("relaxation").profile
        self.code = default_code()
        common = {"code": self.code, "metadata": {"options": {"device": "cpu"}}}
        generator = import_starter().generator
        parameters = {"n": int(n * STRINGS), "conditions": {}}
        drawn = run_get_node(SampleCalculation, generator=generator, parameters=parameters, seed=SEED, **common)[1]
        decoded = run_get_node(
            DecodeCalculation, sequences=drawn.outputs.sequences, generator_name=generator.generator, **common
        )[1]
        made = decoded.outputs.crystals.table
        rows = np.flatnonzero(made.ok)[:n]
        assert len(rows) == n, f"only {len(rows)} of {len(made)} strings became crystals"
        self.crystals = CrystalSetData(made.take(rows.tolist())).store()
        start_daemon(self.profile, 1)

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


def together(line: Line, **relax: Any) -> dict[str, Any]:
    """Relax all crystals in one job."""
    wall, daemon = time.monotonic(), line.daemon_seconds()
    node = line.job(line.crystals, 2, **relax)
    wait([node])
    assert node.is_finished_ok, node.exit_message
    took = {"wall": time.monotonic() - wall, "processor": job_seconds(node) + line.daemon_seconds() - daemon}
    return {"node": node, "table": node.outputs.crystals.table, **took}


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


def optimisers(fire: dict[str, Any], lbfgs: dict[str, Any]) -> Figures:
    """Compare L-BFGS with FIRE on all crystals."""
    table, other = fire["table"], lbfgs["table"]
    n = len(table)
    a, b = (np.array([bool(x) for x in t.column("converged")]) for t in (table, other))
    both = a & b
    ratio = np.nansum(table.values("n_steps")[both]) / np.nansum(other.values("n_steps")[both])
    apart = 1000 * (other.values("energy_per_atom") - table.values("energy_per_atom"))[both]
    result: Figures = {}
    for name, held, done in (("FIRE", fire, a), ("L-BFGS", lbfgs, b)):
        result |= {
            f"{name}: converged in 100 steps": share(int(done.sum()), n),
            f"{name}: failed": share(int((~held["table"].ok).sum()), n),
            f"{name}: mean steps where both converged": figure(held["table"].values("n_steps")[both].mean(), "steps"),
            f"{name}: one job": figure(held["processor"] / n, "processor s/crystal"),
        }
    return result | {
        "FIRE steps over L-BFGS steps": figure(ratio, "x"),
        "L-BFGS within 5 meV/atom of FIRE": share(int((np.abs(apart) <= CLOSE).sum()), int(both.sum())),
        "L-BFGS lower by more than 5 meV/atom": share(int((apart < -CLOSE).sum()), int(both.sum())),
        "L-BFGS higher by more than 5 meV/atom": share(int((apart > CLOSE).sum()), int(both.sum())),
    }


def measure(n: int, n_each: int, n_ase: int, home: Path) -> Figures:
    """Return all figures."""
    from crysgen_aiida.cli.processes import stop_daemon

    line = Line(n)
    try:
        whole = together(line)
        print(f"one job: {whole['wall']:.0f} s, {whole['processor']:.0f} processor s", flush=True)
        rows = list(range(0, n, n // n_each))[:n_each]
        each = one_each(line, rows)
        print(f"one each: {each['wall']:.0f} s, {each['processor']:.0f} processor s", flush=True)
        figures = killed(line, whole["node"].outputs.crystals.content_hash)
        quick = together(line, optimizer="lbfgs")
        quick_each = one_each(line, rows, optimizer="lbfgs")
    finally:
        stop_daemon(line.profile)
    table = line.crystals.table
    ase = {threads: by_ase(table, n_ase, threads, home) for threads in (1, 2)}
    ours = together_alone(table.slice(range(n_ase)))
    cost, each_cost = whole["processor"] / n, each["processor"] / each["n"]
    quick_cost, quick_wall = (quick_each[k] / quick_each["n"] / (quick[k] / n) for k in ("processor", "wall"))
    best_wall, best_cpu = (min(held[key] for held in ase.values()) for key in ("wall", "processor"))
    ratio, each_wall = each_cost / cost, each["wall"] / each["n"] / (whole["wall"] / n)
    cheaper, faster = best_cpu / ours["processor"], best_wall / ours["wall"]
    return {
        "one job": figure(cost, "processor s/crystal"),
        "one job, wall": figure(whole["wall"] / n, "s/crystal"),
        "one job each": figure(each_cost, "processor s/crystal"),
        "one job each, wall, two at a time": figure(each["wall"] / each["n"], "s/crystal"),
        "one job each over one job": figure(ratio, "x", ">= 10", ratio >= 10),
        "one job each over one job, wall": figure(each_wall, "x", ">= 10", each_wall >= 10),
        "one job each over one job, L-BFGS": figure(quick_cost, "x", ">= 10", quick_cost >= 10),
        "one job each over one job, L-BFGS, wall": figure(quick_wall, "x", ">= 10", quick_wall >= 10),
        **{f"ASE, {t} thread(s)": figure(h["processor"] / n_ase, "processor s/crystal") for t, h in ase.items()},
        **{f"ASE, {t} thread(s), wall": figure(h["wall"] / n_ase, "s/crystal") for t, h in ase.items()},
        "same crystals here, 2 threads": figure(ours["processor"] / n_ase, "processor s/crystal"),
        "same crystals here, 2 threads, wall": figure(ours["wall"] / n_ase, "s/crystal"),
        "ASE at its best over here": figure(cheaper, "x", ">= 1.5", cheaper >= 1.5),
        "ASE at its best over here, wall": figure(faster, "x", ">= 1.5", faster >= 1.5),
        **compared(whole["table"], ase[1]["ends"]),
        **figures,
        **optimisers(whole, quick),
    }


def together_alone(crystals: Any) -> dict[str, float]:
    """Relax crystals in this process with two threads, the model loaded before."""
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.relaxation import relax_set

    relax_set(crystals.take([0]), run=InProcess())
    began = time.monotonic(), time.process_time()
    relax_set(crystals, run=InProcess(threads=2))
    return {"wall": time.monotonic() - began[0], "processor": time.process_time() - began[1]}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="200 crystals")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--ase", nargs=4, metavar=("SET", "ROWS", "THREADS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.ase:
        path, rows, threads, out = options.ase
        return ase_alone(Path(path), int(rows), int(threads), Path(out))
    with tempfile.TemporaryDirectory(prefix="cg", dir="/tmp") as home:
        os.environ["AIIDA_PATH"] = home
        figures = measure(*((200, 20, 50) if options.full else (48, 6, 10)), Path(home))
    width = max(map(len, figures))
    for name, held in figures.items():
        verdict = {True: "met", False: "NOT MET", None: ""}[held["met"]]
        span = "" if held["interval"] is None else "[{:.3f}, {:.3f}]".format(*held["interval"])
        print(f"{name:<{width}}  {held['value']:>10.4g} {held['unit']:<20} {span:<16} {held['bar']:<10} {verdict}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
