"""How fast are whole sets encoded and decoded, and do more processes change the result?

Rows of MP-20 as in ``slices_roundtrip.py``, packed into one set. Rates are rows per second of processor time, that of
several processes added up, with starting them: on idle cores the rate by the clock is that times their number. Every
set must have the same content whatever the number of processes.

    python benchmarks/slices_sets.py                      2,000 rows, 1 and 2 processes
    python benchmarks/slices_sets.py --n 10000 --processes 4 --json FILE
"""

from __future__ import annotations

import argparse
import json
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymatgen.core import Structure
from slices_roundtrip import DATA, finish, rows_by_md5

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.representations.slices import SlicesSpec, decode_set, encode_set

BARS = {"decode_set, 1 process": 100.0}


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="rows (default 2,000)")
    parser.add_argument("--processes", type=int, default=2, help="processes of the second run (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    crystals = CrystalSet.from_structures(
        [Structure.from_str(row["cif"], fmt="cif") for row in rows_by_md5(DATA)[: arguments.n]]
    )
    spec, several = SlicesSpec(), arguments.processes
    table: dict[str, Any] = {"rows": {"value": len(crystals), "unit": "rows"}}

    def timed(name: str, call: Callable[..., Any], packed: Any) -> Any:
        single, alone = run(call, packed, spec, 1)
        shared, together = run(call, packed, spec, several)
        table[f"{name}, 1 process"] = {"value": len(packed) / alone, "unit": "rows/s of processor time"}
        table[f"{name}, {several} processes"] = {"value": len(packed) / together, "unit": "rows/s of processor time"}
        table[f"{name}, equal content"] = {
            "value": float(single.content_hash == shared.content_hash),
            "unit": "",
            "bar": 1.0,
        }
        table[f"{name}, rows that are ok"] = {"value": int(single.ok.sum()), "unit": "rows"}
        return single

    timed("decode_set", decode_set, timed("encode_set", encode_set, crystals))
    finish(table, BARS)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


def run(call: Callable[..., Any], packed: Any, spec: SlicesSpec, processes: int) -> tuple[Any, float]:
    """Return a set, and the processor seconds it took all processes."""
    before = used()
    made = call(packed, spec, InProcess(threads=processes))
    return made, used() - before


def used() -> float:
    """Return the processor seconds of this process and those that it started and that ended."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in times)


if __name__ == "__main__":
    main()
