"""Are the bonds of the encoder those of pymatgen, and how much faster are they found?

Rows of MP-20 as in ``slices_roundtrip.py``, all of them, not only eligible ones. EconNN's bonds must be equal in order
too, because the published strings keep it; CrystalNN's as a set: rounding orders bonds of equal weight in pymatgen.

    python benchmarks/slices_graphs.py                    1,000 rows, CrystalNN on the first 300
    python benchmarks/slices_graphs.py --full --json FILE 3,000 rows, CrystalNN on the first 1,000
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CrystalNN, EconNN, NearNeighbors
from pymatgen.core import Structure
from slices_roundtrip import DATA, Timer, finish, rows_by_md5, share

from crysgen_aiida.representations.slices import net_of

BARS = {"EconNN, equal bonds in equal order": 100.0, "CrystalNN, equal bonds": 99.9}

Bonds = list[tuple[int, int, tuple[int, ...]]]


def pymatgen_bonds(structure: Structure, strategy: NearNeighbors) -> Bonds:
    """Return the bonds of pymatgen's graph."""
    graph = StructureGraph.from_local_env_strategy(structure, strategy).graph
    return [(u, v, tuple(int(c) for c in data["to_jimage"])) for u, v, data in graph.edges(data=True)]


def our_bonds(structure: Structure, method: str) -> Bonds:
    """Return the bonds of the encoder's graph."""
    net = net_of(structure, method)
    return [(u, v, tuple(w)) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True)]


def beside(name: str, equal: str, crystals: list[Structure], ours: Callable[..., Any], theirs: Callable[..., Any],
           same: Callable[[Any, Any], bool]) -> dict[str, Any]:  # fmt: skip
    """Call both on every crystal; return how many agree and the times."""
    here, there, n_same = Timer(), Timer(), 0
    for structure in crystals:
        n_same += same(here(ours, structure), there(theirs, structure))
    table = {f"{name}, {equal}": share(n_same, len(crystals))}
    for title, average in (("median", statistics.median), ("mean", statistics.fmean)):
        table[f"{name}, {title}"] = {"value": average(here.ms), "unit": "ms"}
        table[f"{name}, {title}: reference"] = {"value": average(there.ms), "unit": "ms"}
        table[f"{name}, {title}: ratio"] = {"value": average(there.ms) / average(here.ms), "unit": "x"}
    return table


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="rows (default 1,000)")
    parser.add_argument("--crystalnn", type=int, default=300, help="rows for CrystalNN (default 300)")
    parser.add_argument("--full", action="store_true", help="3,000 and 1,000 rows")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    n, n_crystalnn = (3000, 1000) if arguments.full else (arguments.n, arguments.crystalnn)
    crystals = [Structure.from_str(row["cif"], fmt="cif") for row in rows_by_md5(DATA)[:n]]
    authors = CrystalNN(porous_adjustment=False, weighted_cn=True)
    table = beside(
        "EconNN", "equal bonds in equal order", crystals,
        lambda s: our_bonds(s, "econnn"), lambda s: pymatgen_bonds(s, EconNN()), lambda a, b: a == b,
    ) | beside(
        "CrystalNN", "equal bonds", crystals[:n_crystalnn],
        lambda s: our_bonds(s, "crystalnn"), lambda s: pymatgen_bonds(s, authors), lambda a, b: set(a) == set(b),
    )  # fmt: skip
    finish(table, BARS)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
