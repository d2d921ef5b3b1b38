"""The candidate index: how fast it is filled and asked, how large it grows, and that its answers are right.

    python benchmarks/store.py [--full] [--postgresql URL] [--json FILE]

Candidates are rows of real packed nodes (batches of 10,000 rows, 12 properties, yes/no verdicts), stored through AiiDA
in a profile of their own in a temporary folder; a made-up finished screening links those of a batch. ``store sync``
fills the empty index in a fresh process that has loaded the profile; up to 10^5 the fastest of three counts. Each
question is asked by three fresh processes, of which the fastest counts, and its answer compared with what brute force
finds among all rows. *Call* is the question itself, the opening of the index included; *process* is all of it, Python's
start and the imports too. Quick: 10^4 and 10^5 candidates; ``--full``: 10^6 as well. With ``--postgresql URL`` (of an
empty database) the index is there instead of in an SQLite file; the nodes stay in the SQLite profile.

Beside it: the same question by reading the packed nodes (``store/candidates.py``), and by the query builder over one
node a candidate (10^4).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from made_up_runs import PROFILE, ROWS, batches_made, load, make_batch

Figures = dict[str, dict[str, Any]]

#: Share of survivors to the time one may wait for the 50 best [s].
BARS = {0.001: 0.3, 0.01: 1.0, 0.1: 3.0}

OBJECTIVES = {"formation_energy_per_atom": "lower", "bulk_modulus_vrh": "higher"}

#: The most memory a process ever held [MB]; ``ru_maxrss`` would be its parent's.
PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
"""

#: Runs in a fresh process: fills an empty index and says how long it took, by the clock and by the processor.
FILL = (
    PEAK
    + """
import json, sys, time
from aiida.manage import get_manager
from aiida.manage.configuration import load_profile
load_profile(sys.argv[3])
get_manager().get_profile_storage()
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.sync import sync
index = Index.open(sys.argv[1], sys.argv[2] or None)
with index.lock():
    index.refill(lambda: None)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak so far was of emptying the old one
busy = time.process_time()
report = sync(index)
busy = time.process_time() - busy
print(json.dumps({"rows": report.rows, "seconds": report.seconds, "processor": busy, "memory": peak(),
                  "nothing": sync(index).seconds}))
"""
)

#: Runs in a fresh process: opens the index, asks, prints what it found and how long it took.
ASK = (
    PEAK
    + """
import json, sys, time
start = time.perf_counter()
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.query import rank_candidates
imported = time.perf_counter()
url, schema, asked = sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3])
index = Index.open(url, schema, create=False)
found = rank_candidates(index, asked["query"], where=asked["where"])
done = time.perf_counter()
print(json.dumps({"address": [str(a) for a in found.address], "counts": found.funnel, "imports": imported - start,
                  "call": done - imported, "processor": time.process_time(), "memory": peak()}))
"""
)


def figure(value: float, unit: str, bar: str = "-", met: bool | None = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": None, "bar": bar, "met": met}


def say(text: str) -> None:
    """Tell on the error channel how far this is."""
    print(text, file=sys.stderr, flush=True)


# -- questions --------------------------------------------------------------------------------------------------------


def question(share: float) -> dict[str, Any]:
    """Return three constraints that leave about ``share`` of the candidates, two objectives, the 50 best."""
    kept = (share / 0.98**3) ** (1 / 3)
    where = f"band_gap > {1 - kept!r} and e_above_reference < {kept!r} and kappa_300k < {kept!r}"
    return {"where": where, "query": {"objectives": OBJECTIVES, "limit": 50}, "kept": kept}


def ask(url: str, schema: str | None, share: float) -> dict[str, Any]:
    """Ask in a fresh process, three times; return the fastest, with the wall time of the whole process."""
    tries = [run_fresh(ASK, url, schema or "", json.dumps(question(share))) for _ in range(3)]
    return min(tries, key=lambda found: float(found["wall"]))


def run_fresh(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a fresh process; return what it printed, and the time from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return {**json.loads(done.stdout), "wall": wall}


def brute_force(columns: dict[str, np.ndarray], share: float, top: int | None = 50) -> list[int]:
    """Return the positions of the best by the definition: constraints, mean desirability, ties by position."""
    kept = question(share)["kept"]
    held = (columns["band_gap"] > 1 - kept) & (columns["e_above_reference"] < kept) & (columns["kappa_300k"] < kept)
    rows = np.flatnonzero(held)
    scores = np.zeros(len(rows))
    unknown = np.zeros(len(rows), dtype=bool)
    for name, direction in OBJECTIVES.items():
        values = columns[name][rows] * (1 if direction == "lower" else -1)
        worst, best = np.nanmax(values), np.nanmin(values)
        missing = np.isnan(values)
        unknown |= missing
        scores += np.where(missing, 0.0, np.clip((worst - values) / (worst - best), 0, 1)) / len(OBJECTIVES)
    order = sorted(range(len(rows)), key=lambda k: (unknown[k], -round(scores[k], 12), rows[k]))
    return [int(rows[k]) for k in order[:top]]


def read_everything() -> tuple[list[str], dict[str, np.ndarray], float]:
    """Read all packed nodes; return addresses, the columns of the question, and the seconds it took."""
    import pandas as pd

    from crysgen_aiida.store.candidates import candidate_sets

    start = time.perf_counter()
    wanted = ["address", "band_gap", "e_above_reference", "kappa_300k", *OBJECTIVES]
    frames = [held.frame[wanted] for held in reversed(candidate_sets())]
    frame = pd.concat(frames, ignore_index=True)
    seconds = time.perf_counter() - start
    return frame["address"].tolist(), {n: frame[n].to_numpy(dtype=float) for n in wanted[1:]}, seconds


def one_node_a_row(columns: dict[str, np.ndarray], share: float) -> tuple[float, float, int]:
    """Store 10,000 nodes, the properties as attributes, and ask the query builder; return seconds of both, and rows."""
    from aiida import orm
    from aiida.manage import get_manager

    storage = get_manager().get_profile_storage()
    start = time.perf_counter()
    for first in range(0, ROWS, 500):
        with storage.transaction():
            for k in range(first, min(first + 500, ROWS)):
                held = {name: float(v[k]) for name, v in columns.items() if not np.isnan(v[k])}
                orm.Dict({"candidate": held}, label="row").store()
    stored = time.perf_counter() - start
    start = time.perf_counter()
    kept = question(share)["kept"]
    query = orm.QueryBuilder().append(
        orm.Dict,
        filters={
            "label": "row",
            "attributes.candidate.band_gap": {">": 1 - kept},
            "attributes.candidate.e_above_reference": {"<": kept},
            "attributes.candidate.kappa_300k": {"<": kept},
        },
        project=[f"attributes.candidate.{name}" for name in OBJECTIVES],
    )
    n = len(query.all())
    return stored, time.perf_counter() - start, n


# -- the run ----------------------------------------------------------------------------------------------------------


def measure(size: int, url: str, schema: str | None) -> Figures:
    """Grow the profile to ``size`` candidates, synchronise a new index, ask."""
    for number in range(batches_made(), size // ROWS):
        make_batch(number)
    say(f"{size} candidates are there")
    fills = [run_fresh(FILL, url, schema or "", PROFILE) for _ in range(3 if size <= 100_000 else 1)]
    assert all(found["rows"] == size for found in fills), fills
    filled = min(fills, key=lambda found: float(found["seconds"]))
    memory = max(float(found["memory"]) for found in fills)
    label = f"10^{len(str(size)) - 1}"
    say(f"synchronised in {filled['seconds']:.1f} s")
    rate = size / filled["seconds"]
    figures = {
        f"{label} sync": figure(rate, "rows/s", ">= 20000", rate >= 20000),
        f"{label} sync, by the processor's time here": figure(size / filled["processor"], "rows/s"),
        f"{label} sync, peak memory": figure(memory, "MB", "<= 1000", memory <= 1000),
        f"{label} sync, nothing new": figure(filled["nothing"], "s"),
        f"{label} size of the index": figure(index_bytes(url, schema) / size, "B/row"),
    }
    addresses, columns, seconds = read_everything()
    say(f"read in {seconds:.1f} s")
    figures[f"{label} the same by reading the packed nodes"] = figure(seconds, "s")
    memory = 0.0
    for share, bar in BARS.items():
        found = ask(url, schema, share)
        wanted = [addresses[k] for k in brute_force(columns, share)]
        name = f"{label} top 50 of {share:.1%}"
        equal = found["address"] == wanted
        figures[f"{name}, call"] = figure(found["call"], "s", f"<= {bar}", found["call"] <= bar)
        figures[f"{name}, process"] = figure(found["wall"], "s", f"<= {bar}", found["wall"] <= bar)
        figures[f"{name}, processor"] = figure(found["processor"], "s")
        figures[f"{name}, survivors"] = figure(found["counts"][-1][1], "rows")
        figures[f"{name}, equal to brute force"] = figure(equal, "yes = 1", "1", equal)
        memory = max(memory, found["memory"])
    figures[f"{label} peak memory of a question"] = figure(memory, "MB", "<= 1000", memory <= 1000)
    if size == ROWS:
        stored, asked, n = one_node_a_row(columns, 0.01)
        assert n == len(brute_force(columns, 0.01, top=None)), n
        figures[f"{label} one node a row: store"] = figure(stored, "s")
        figures[f"{label} one node a row: query builder, filters alone"] = figure(asked, "s")
    return figures


def index_bytes(url: str, schema: str | None) -> int:
    """Return what the index takes on disk."""
    from sqlalchemy import func, select

    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.index.models import Base
    from crysgen_aiida.store.index.wide import NAME

    index = Index.open(url, schema)
    path = index.path
    if path is not None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return path.stat().st_size
    tables = [*Base.metadata.tables, NAME]
    with index.read() as held:
        return sum(int(held.scalar(select(func.pg_total_relation_size(name))) or 0) for name in tables)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a million candidates as well")
    parser.add_argument("--postgresql", metavar="URL", help="postgresql://user:password@host:port/database")
    parser.add_argument("--home", type=Path, help="keep the made-up runs in this folder; those there are used again")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="cgb", dir="/tmp"))
    home.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    try:
        load(home)
        url = options.postgresql or f"sqlite:///{home / 'storage' / 'crysgen-index.sqlite'}"
        schema = "crysgen" if options.postgresql else None
        sizes = [10_000, 100_000, *([1_000_000] if options.full else [])]
        for size in [s for s in sizes if s >= batches_made() * ROWS]:
            figures.update(measure(size, url, schema))
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)
    width = max(map(len, figures))
    for name, held in figures.items():
        verdict = {True: "met", False: "NOT MET", None: ""}[held["met"]]
        print(f"{name:<{width}}  {held['value']:>12.5g} {held['unit']:<8} {held['bar']:<10} {verdict}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
