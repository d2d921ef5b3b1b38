"""How many real crystals survive crystal -> SLICES -> crystal, without a potential?

Rows of MP-20 in the order of the md5 of their material id; eligible are three-dimensional nets of at most 20 atoms, up
to radon, with labels within one cell. One final structure a string, judged by pymatgen's StructureMatcher.

    python benchmarks/slices_roundtrip.py                 300 eligible rows, EconNN
    python benchmarks/slices_roundtrip.py --full          2,000 eligible rows
    python benchmarks/slices_roundtrip.py --graph crystalnn --mode paper --json FILE
    python benchmarks/slices_roundtrip.py --full --published ENV/bin/python --json FILE
                                                          and the package ``slices`` in one run (``slices_compare.py``)
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import math
import os
import statistics
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: threads only cost

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crysgen_aiida.representations.slices import SlicesError, SlicesSpec, decode, encode, parse

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CRYSGEN_TEST_DATA", ROOT.parent / "shared" / "data")) / "mp20_part.csv.gz"
BARS = {"strict match": 88.0}  # percent


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of k successes in n, in percent."""
    if n == 0:
        return 0.0, 100.0
    p, denominator = k / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def rows_by_md5(path: Path) -> list[dict[str, str]]:
    """Return the rows of the data set in the order of the md5 of their id."""
    with gzip.open(path, "rt") as file:
        return sorted(csv.DictReader(file), key=lambda r: hashlib.md5(r["material_id"].encode()).hexdigest())


class Timer:
    """Processor times of single calls [ms]: with one thread, the wall times of an idle machine."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def __call__(self, call: Any, *args: Any) -> Any:
        start = time.process_time()
        try:
            return call(*args)
        finally:
            self.ms.append(1e3 * (time.process_time() - start))

    def __str__(self) -> str:
        return f"{statistics.median(self.ms):.2f} median, {statistics.fmean(self.ms):.2f} mean"


def measure(n: int, spec: SlicesSpec, path: Path = DATA) -> dict[str, Any]:
    """Run the round trip on the first ``n`` eligible rows and return counts, times and reasons."""
    strict, loose = StructureMatcher(0.2, 0.3, 5), StructureMatcher(0.3, 0.5, 10)
    not_eligible: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    encoding, decoding = Timer(), Timer()
    n_strict = n_loose = eligible = looked_at = 0
    rms, volume = [], []
    for row in rows_by_md5(path):
        if eligible == n:
            break
        looked_at += 1
        original = Structure.from_str(row["cif"], fmt="cif")
        try:
            string = encoding(encode, original, spec)
        except SlicesError as error:
            not_eligible[error.reason] += 1
            continue
        eligible += 1
        try:
            crystal = decoding(decode, parse(string, spec.strategy), spec).structure()
        except SlicesError as error:
            failed[error.reason] += 1
            continue
        volume.append(100 * (crystal.volume * len(original) / len(crystal) / original.volume - 1))
        fit = strict.get_rms_dist(original, crystal)
        if fit is not None:
            n_strict += 1
            rms.append(fit[0])
            n_loose += 1
        elif loose.fit(original, crystal):
            n_loose += 1
            failed["Matches by the loose criterion only."] += 1
        else:
            failed["Decoded, but to another crystal."] += 1
    return {
        "looked_at": looked_at, "eligible": eligible, "strict": n_strict, "loose": n_loose, "rms": rms,
        "volume": volume, "encoding": encoding, "decoding": decoding, "not_eligible": not_eligible, "failed": failed,
    }  # fmt: skip


def share(k: int, n: int) -> dict[str, Any]:
    """Return a percentage with its interval."""
    low, high = wilson(k, n)
    return {"value": 100 * k / n, "unit": "%", "interval": [low, high], "numerator": k, "denominator": n}


def quantile(values: list[float], percent: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """Turn counts into figures with units, intervals and bars."""
    n, looked_at = found["eligible"], found["looked_at"]
    table = {
        "eligible rows": share(n, looked_at),
        "strict match": share(found["strict"], n),
        "loose match": share(found["loose"], n),
        "strict match of all rows": share(found["strict"], looked_at),
        "loose match of all rows": share(found["loose"], looked_at),
        "rms of strict matches, median": {"value": statistics.median(found["rms"]), "unit": "(V/n)^(1/3)"},
        "volume change, median": {"value": statistics.median(found["volume"]), "unit": "%"},
        "volume change, size: median": {"value": statistics.median(map(abs, found["volume"])), "unit": "%"},
        "volume change, 5th percentile": {"value": quantile(found["volume"], 5), "unit": "%"},
        "volume change, 25th percentile": {"value": quantile(found["volume"], 25), "unit": "%"},
        "volume change, 75th percentile": {"value": quantile(found["volume"], 75), "unit": "%"},
        "volume change, 95th percentile": {"value": quantile(found["volume"], 95), "unit": "%"},
    }
    for what in ("encoding", "decoding"):
        table[f"{what}, median"] = {"value": statistics.median(found[what].ms), "unit": "ms"}
        table[f"{what}, mean"] = {"value": statistics.fmean(found[what].ms), "unit": "ms"}
    return table


def finish(table: dict[str, Any], bars: dict[str, float]) -> None:
    """Complete the entries and print them."""
    for name, entry in table.items():
        entry.setdefault("interval", None)
        entry.setdefault("bar", bars.get(name))
        entry["met"] = None if entry["bar"] is None else entry["value"] >= entry["bar"]
        interval = "" if entry["interval"] is None else "  [{:.1f}, {:.1f}]".format(*entry["interval"])
        bar = "" if entry["bar"] is None else f"  bar {entry['bar']:g}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {name:<44} {entry['value']:8.3f} {entry['unit']}{interval}{bar}")


def print_reasons(**kinds: Counter[str]) -> None:
    """Print what kept rows from success."""
    for title, reasons in kinds.items():
        print(f"  {title.replace('_', ' ')}:")
        for reason, count in reasons.most_common():
            print(f"    {count:4d}  {reason}")


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300, help="eligible rows (default 300)")
    parser.add_argument("--full", action="store_true", help="2,000 eligible rows")
    parser.add_argument("--graph", default="econnn", choices=("econnn", "crystalnn"))
    parser.add_argument("--mode", default="strict", choices=("strict", "paper"))
    parser.add_argument("--published", type=Path, metavar="PYTHON", help="Python that has the package slices")
    parser.add_argument("--compare", type=int, default=200, metavar="N", help="rows for --published (default 200)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    n = 2000 if arguments.full else arguments.n
    table = round_trip(n, SlicesSpec(graph_method=arguments.graph, mode=arguments.mode))
    if arguments.published:
        table |= {f"published: {name}": e for name, e in published(arguments.published, arguments.compare).items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


def round_trip(n: int, spec: SlicesSpec) -> dict[str, Any]:
    """Measure ``n`` rows, print the table and return it."""
    found = measure(n, spec)
    print(f"SLICES round trip, {spec.graph_method}, {spec.mode} mode, no potential, one structure a string")
    table = figures(found)
    finish(table, BARS if spec == SlicesSpec() else {})
    print_reasons(not_eligible=found["not_eligible"], not_matched_strictly=found["failed"])
    return table


def published(python: Path, n: int) -> dict[str, Any]:
    """Compare with the published package, print the table and return it."""
    import slices_compare

    versions, ours, theirs = slices_compare.compare(python, rows_by_md5(DATA), n)
    print("The published package in one run:", ", ".join(f"{name} {v}" for name, v in versions.items()))
    table = slices_compare.figures(ours, theirs, share)
    finish(table, {})
    print_reasons(ours_failed=ours.failed, published_failed=theirs.failed)
    return table


if __name__ == "__main__":
    main()
