"""How fast are crystals made into FTCP matrices and back, does every one of them come back, and are ours the published?

Rows of MP-20 (at most 20 atoms), packed into one columnar set beforehand. Rates are rows per second of processor time
on one core, the median of several runs, with the slowest and fastest as interval. The published way
(``ftcp_published.py``) starts from the CIF of each crystal, as its program does; its rate without parsing is given too.
Both rates of the ratio are measured in the same run.

    python benchmarks/ftcp_encode.py                      3,000 rows
    python benchmarks/ftcp_encode.py --full --json FILE   all rows
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # rates are those of one core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ftcp_published
import numpy as np
from slices_roundtrip import DATA, finish, print_reasons, rows_by_md5

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.formats import pack_rows
from crysgen_aiida.crystals.intervals import wilson
from crysgen_aiida.crystals.matching import MatchSpec
from crysgen_aiida.crystals.readers import cif_structure, guarded
from crysgen_aiida.representations.ftcp import (
    Compact,
    FtcpSpec,
    RowScaler,
    compact_of,
    crystals_of,
    matrices,
    read_matrices,
)

#: Crystals whose matrices are in memory at a time.
PART = 1024
RATE = "crystals/s of processor time"
BARS = {
    "encode": 2000.0,
    "strict match": 100.0,
    "strict match through a scaler": 100.0,
    "equal to the published": 100.0,
}


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000, help="rows (default 3,000)")
    parser.add_argument("--full", action="store_true", help="all rows")
    parser.add_argument("--published", type=int, default=300, help="rows for the published way (default 300)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    rows = rows_by_md5(DATA)[: None if arguments.full else arguments.n]
    crystals = pack_rows([guarded(lambda cif=row["cif"]: cif_structure(cif)) for row in rows])  # type: ignore[misc]
    spec = FtcpSpec(max_elements=4)
    _, reasons = compact_of(crystals, spec)
    eligible = crystals.take([row for row, reason in enumerate(reasons) if reason is None])
    cifs = [row["cif"] for row, reason in zip(rows, reasons, strict=True) if reason is None]
    table: dict[str, Any] = {"eligible rows": share(len(eligible), len(rows))}
    table |= rates(eligible, spec) | published(cifs[: arguments.published], spec)
    table["encode, times the published"] = {
        "value": table["encode, kpoints: paper"]["value"] / table["published: encode"]["value"], "unit": "",
    }  # fmt: skip
    table |= round_trip(eligible, spec)
    finish(table, BARS)
    print_reasons(not_eligible=Counter(reason for reason in reasons if reason is not None))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


def share(k: int, n: int) -> dict[str, Any]:
    """Return a percentage with its interval."""
    low, high = wilson(k, n)
    return {"value": 100 * k / n, "unit": "%", "interval": [100 * low, 100 * high], "numerator": k, "denominator": n}


def rate(call: Callable[[], Any], n: int, runs: int = 5) -> dict[str, Any]:
    """Return rows per second of processor time: the median of several runs, and the slowest and fastest of them."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        call()
        found.append(n / (time.process_time() - start))
    return {
        "value": statistics.median(found),
        "unit": RATE,
        "interval": [min(found), max(found)],
        "runs": runs,
        "rows": n,
    }


def encoded(crystals: CrystalSet, spec: FtcpSpec) -> None:
    """Make the matrices of a set, from its columns, and let go of them."""
    compact, _ = compact_of(crystals, spec)
    for start in range(0, len(compact), PART):
        matrices(compact.take(slice(start, start + PART)), spec)


def rates(crystals: CrystalSet, spec: FtcpSpec) -> dict[str, Any]:
    """Measure encoding and decoding of a set."""
    n, some = len(crystals), crystals.slice(range(min(2000, len(crystals))))
    variants = {
        "encode": (crystals, spec),
        "encode, kpoints: paper": (crystals, FtcpSpec(max_elements=4, kpoints="paper")),
        "encode, reciprocal: false": (crystals, FtcpSpec(max_elements=4, reciprocal=False)),
        "encode, site_order: symmetry": (some, FtcpSpec(max_elements=4, site_order="symmetry")),
    }
    table = {name: rate(lambda c=c, s=s: encoded(c, s), len(c)) for name, (c, s) in variants.items()}  # type: ignore[misc]
    compact, _ = compact_of(some, spec)
    values = matrices(compact, spec)
    table["decode"] = rate(lambda: crystals_of(read_matrices(values, spec), spec), len(some))
    designs = made_up(crystals, spec, 10_000)
    table["10,000 made-up designs"] = {
        "value": statistics.median(seconds(lambda: crystals_of(designs, spec)) for _ in range(3)),
        "unit": "s of processor time to decode",
        "crystals among them": int(crystals_of(designs, spec).ok.sum()),
    }
    table["rows encoded"] = {"value": n, "unit": "rows"}
    return table


def seconds(call: Callable[[], Any]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def made_up(crystals: CrystalSet, spec: FtcpSpec, n: int) -> Compact:
    """Return n designs as a network makes them: real crystals with noise on every number."""
    rng = np.random.default_rng(0)
    compact, _ = compact_of(crystals, spec)
    compact = compact.take(rng.integers(0, len(compact), n))
    return Compact(
        compact.numbers,
        compact.lattices * rng.normal(1, 0.02, compact.lattices.shape),
        compact.coords + rng.normal(0, 0.02, compact.coords.shape),
        np.clip(compact.occupancy + rng.normal(0, 0.01, compact.occupancy.shape), 0, 1).astype(np.float32),
    )


def published(cifs: list[str], spec: FtcpSpec) -> dict[str, Any]:
    """Measure the published way, and compare what it makes with ours."""
    vectors = ftcp_published.atom_init()
    sizes = (spec.max_elements, spec.max_sites)
    structures = [cif_structure(cif) for cif in cifs]
    whole = rate(lambda: [ftcp_published.matrix_of_cif(cif, vectors, *sizes) for cif in cifs], len(cifs), 3)
    alone = rate(lambda: [ftcp_published.matrix_of(s, vectors, *sizes) for s in structures], len(cifs), 3)
    theirs = np.array([ftcp_published.matrix_of(s, vectors, *sizes) for s in structures])
    paper = FtcpSpec(max_elements=spec.max_elements, kpoints="paper")
    compact, _ = compact_of(CrystalSet.from_structures(structures), paper)
    ours = matrices(compact, paper)[:, : theirs.shape[1]]
    equal = np.isclose(ours, theirs, rtol=1e-6, atol=3e-5).all(axis=(1, 2))
    return {
        "published: encode": whole,
        "published: encode, without parsing": alone,
        "equal to the published": share(int(equal.sum()), len(cifs)),
        "largest difference": {"value": float(np.abs(ours - theirs).max()), "unit": "(F_hkl reaches hundreds)"},
    }


def round_trip(crystals: CrystalSet, spec: FtcpSpec) -> dict[str, Any]:
    """Encode and decode every crystal, with and without a scaler, and compare what comes back."""
    compact, _ = compact_of(crystals, spec)
    parts = [compact.take(slice(start, start + PART)) for start in range(0, len(compact), PART)]
    scaler = RowScaler.fit_parts(matrices(part, spec) for part in parts)
    originals, table = crystals.structures(), {}
    matcher = MatchSpec().matcher()
    for name, scaled in (("", False), (" through a scaler", True)):
        made = (matrices(part, spec) for part in parts)
        back = [read_matrices(scaler.inverse(scaler.transform(m)) if scaled else m, spec) for m in made]
        read = Compact.concat(back)
        decoded = crystals_of(read, spec)
        same = sum(
            other is not None and bool(matcher.fit(one, other))
            for one, other in zip(originals, decoded.structures(), strict=True)
        )
        moved = np.abs(read.coords - compact.coords)
        table[f"strict match{name}"] = share(same, len(crystals))
        table[f"largest error of lengths and angles{name}"] = {
            "value": 1e6 * float(np.abs(read.lattices / compact.lattices - 1).max()), "unit": "millionths of them",
        }  # fmt: skip
        table[f"largest error of coordinates{name}"] = {
            "value": 1e6 * float(np.minimum(moved, 1 - moved).max()), "unit": "millionths of the cell",
        }  # fmt: skip
        identical = (read.numbers == compact.numbers).all(axis=1) & (read.occupancy == compact.occupancy).all(
            axis=(1, 2)
        )
        table[f"elements and occupancies equal{name}"] = share(int(identical.sum()), len(crystals))
    return table


if __name__ == "__main__":
    main()
