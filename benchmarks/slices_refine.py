"""How many real crystals survive crystal -> SLICES -> crystal, refined with CHGNet?

Rows of MP-20 in the order of the md5 of their material id; eligible are three-dimensional nets of at most 20 atoms, up
to radon, with labels within one cell. One final structure a string, chosen among its relaxed geometries by bonds and
energy (``crysgen_aiida.representations.slices.refine``), never by the original. A match is one as in
``slices_roundtrip.py``, by the root mean square of the distances; the stricter one by the largest distance stands
beside it. Beside it the same strings without a
potential. The numbers among the settings were chosen
on rows that are not among the first 500 eligible ones; the rule that bonds go before energy was added after the first
240 of these had been seen with energy alone.

    python benchmarks/slices_refine.py                     100 eligible rows
    python benchmarks/slices_refine.py --full --folder F   500 eligible rows; finished parts stay in the folder F
    python benchmarks/slices_refine.py --groups --n 300    how often decoded crystals have the group of their prefix
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: threads only cost

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from slices_roundtrip import DATA, rows_by_md5, share

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.representations.slices import SlicesError, SlicesSpec, encode
from crysgen_aiida.representations.slices.refine import refined_set
from crysgen_aiida.representations.slices.sets import sequence_set
from crysgen_aiida.worker.parts import Journal, PartStore
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.stop import Stop

BARS = {"refined, strict match": (94.0, 91.0)}  # the share, and the lower end of its interval


def make_run(folder: Path) -> WorkerRun:
    """Return a run whose finished parts stay in ``folder``."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    return WorkerRun(folder / "state", PartStore(folder, Journal(folder)), Stop(time.monotonic()))


def eligible(n: int, spec: SlicesSpec, skip: int = 0) -> tuple[list[Structure], SequenceSet, Counter[str]]:
    """Return the first ``n`` crystals that can be spelt (after ``skip`` rows), their strings, and why others cannot."""
    crystals: list[Structure] = []
    strings: list[str | None] = []
    refused: Counter[str] = Counter()
    for row in rows_by_md5(DATA)[skip:]:
        if len(strings) == n:
            break
        original = Structure.from_str(row["cif"], fmt="cif")
        try:
            strings.append(encode(original, spec))
            crystals.append(original)
        except SlicesError as error:
            refused[error.reason] += 1
    return crystals, sequence_set(strings, [None] * len(strings), list(range(len(strings))), {}), refused


def judge(originals: list[Structure], decoded: CrystalSet) -> dict[str, Any]:
    """Match every crystal with its original."""
    strict, loose = StructureMatcher(0.2, 0.3, 5), StructureMatcher(0.3, 0.5, 10)
    found: dict[str, Any] = {"strict": 0, "strictest": 0, "loose": 0, "rms": [], "volume": [], "failed": Counter()}
    for row, original in enumerate(originals):
        if not decoded.ok[row]:
            found["failed"][str(decoded.column("reason")[row])] += 1
            continue
        crystal = decoded.structure(row)
        found["volume"].append(100 * (crystal.volume * len(original) / len(crystal) / original.volume - 1))
        fit = strict.get_rms_dist(original, crystal)
        if fit is not None:
            found["rms"].append(fit[0])
            found["strictest"] += bool(strict.fit(original, crystal))
        found["strict"] += fit is not None
        if fit is not None or loose.fit(original, crystal):
            found["loose"] += 1
            if fit is None:
                found["failed"]["Matches by the loose criterion only."] += 1
        else:
            found["failed"]["Decoded, but to another crystal."] += 1
    return found


def figures(name: str, found: dict[str, Any], n: int, looked_at: int, seconds: float | None) -> dict[str, Any]:
    """Turn counts into figures with units, intervals and bars."""
    volume = sorted(found["volume"])
    table: dict[str, Any] = {
        f"{name}, strict match": share(found["strict"], n),
        f"{name}, strict match by the largest distance": share(found["strictest"], n),
        f"{name}, loose match": share(found["loose"], n),
        f"{name}, strict match of all rows": share(found["strict"], looked_at),
        f"{name}, rms of strict matches, median": {"value": statistics.median(found["rms"]), "unit": "(V/n)^(1/3)"},
        f"{name}, volume change, median size": {"value": statistics.median(map(abs, volume)), "unit": "%"},
    }
    for percent in (5, 25, 50, 75, 95):
        value = volume[round((len(volume) - 1) * percent / 100)]
        table[f"{name}, volume change, percentile {percent}"] = {"value": value, "unit": "%"}
    if seconds is not None:
        table[f"{name}, processor time a string"] = {"value": seconds, "unit": "s"}
    for reason, count in found["failed"].most_common():
        table[f"{name}, not strict: {reason}"] = {"value": count, "unit": "rows"}
    return table


def round_trip(n: int, skip: int, spec: SlicesSpec, folder: Path) -> dict[str, Any]:
    """Decode with and without the potential, and judge both."""
    from crysgen_aiida.physics.relaxer import PotentialRelaxer

    originals, sequences, refused = eligible(n, spec, skip)
    n, looked_at = len(originals), len(originals) + sum(refused.values())
    table: dict[str, Any] = {"eligible rows": share(n, looked_at)}
    for reason, count in refused.most_common():
        table[f"not eligible: {reason}"] = {"value": count, "unit": "rows"}
    for name, relaxer in (("no potential", None), ("refined", PotentialRelaxer("chgnet"))):
        run = make_run(folder / name.replace(" ", "_"))
        began = time.process_time()
        decoded = refined_set(sequences, spec, run, relaxer)
        spent = time.process_time() - began
        done = run.units_done / max(1, run.units_done + run.units_reused)
        table |= figures(name, judge(originals, decoded), n, looked_at, spent / (done * n) if done else None)
        if relaxer is not None:
            kept = Counter(start for start in decoded.column("start") if start)
            table |= {f"refined, won by {start}": {"value": count, "unit": "rows"} for start, count in kept.items()}
            kept_bonds = sum(bool(kept) for kept in decoded.column("keeps_net"))
            table["refined, bonds of the string kept"] = share(kept_bonds, n)
            starts = statistics.fmean(decoded.column("n_starts"))
            table["refined, geometries a string, mean"] = {"value": starts, "unit": "geometries"}
    return table


def groups(n: int, skip: int, spec: SlicesSpec, folder: Path) -> dict[str, Any]:
    """Count how many decoded crystals have the space group of their prefix, before and after symmetrising."""
    from dataclasses import replace

    originals, sequences, refused = eligible(n, spec, skip)
    n, looked_at = len(originals), len(originals) + sum(refused.values())
    table: dict[str, Any] = {"eligible rows": share(n, looked_at)}
    run = make_run(folder / "groups")
    decoded = refined_set(sequences, replace(spec, symmetrise=True), run)
    plain = refined_set(sequences, spec, make_run(folder / "plain"))
    asked, before, after = (decoded.column(f"group_{name}") for name in ("asked", "before", "after"))
    for name, held in (("group of the prefix, as decoded", before), ("group of the prefix, symmetrised", after)):
        table[name] = share(sum(a is not None and a == b for a, b in zip(asked, held, strict=True)), n)
    for reason, count in Counter(decoded.column("symmetrise_reason")).most_common():
        table[f"symmetrising: {reason or 'Done.'}"] = {"value": count, "unit": "rows"}
    for name, found in (("as decoded", plain), ("symmetrised", decoded)):
        table[f"strict match, {name}"] = share(judge(originals, found)["strict"], n)
    return table


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="eligible rows (default 100)")
    parser.add_argument("--full", action="store_true", help="500 eligible rows")
    parser.add_argument("--skip", type=int, default=0, help="rows to leave out at the beginning")
    parser.add_argument("--groups", action="store_true", help="space groups instead of the round trip")
    parser.add_argument("--folder", type=Path, help="where finished parts stay, so that a run can go on")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    n = 500 if arguments.full else arguments.n
    measure = groups if arguments.groups else round_trip
    with tempfile.TemporaryDirectory() as passing:
        table = measure(n, arguments.skip, SlicesSpec(), arguments.folder or Path(passing))
    for name, entry in table.items():
        bar, low = BARS.get(name, (None, None))
        entry.setdefault("interval", None)
        entry["bar"] = bar
        entry["met"] = None if bar is None else entry["value"] >= bar and entry["interval"][0] >= low
        interval = "" if entry["interval"] is None else "  [{:.1f}, {:.1f}]".format(*entry["interval"])
        told = "" if bar is None else f"  bar {bar:g}, lower end {low:g}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {name:<56} {entry['value']:8.3f} {entry['unit']}{interval}{told}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
