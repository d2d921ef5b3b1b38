"""Does a crystal keep the hash of its net in any cell, and do different crystals have different ones?

Rows of MP-20 as in ``slices_roundtrip.py``. Every eligible crystal is written once more with its atoms in another
order, from another origin and with other lattice vectors (a random unimodular matrix), reduced to a primitive cell
again by spglib, and hashed. *Shared* hashes are looked at with pymatgen's StructureMatcher (0.2, 0.3, 5 degrees):
polymorphs with one net share it rightly, and so do crystals the net does not tell apart; *split* are pairs the matcher
takes for one crystal although their nets differ.

    python benchmarks/slices_hash.py                      1,000 eligible rows
    python benchmarks/slices_hash.py --n 200 --json FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from slices_roundtrip import DATA, Timer, rows_by_md5, share

from crysgen_aiida.representations.slices import SlicesError, encode, net_hash, net_of

BAR = 99.9


def unimodular(rng: np.random.Generator) -> np.ndarray:
    """Return a random integer matrix with determinant 1 or -1, not far from orthogonal."""
    matrix = np.eye(3, dtype=int)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    for _ in range(2):
        shear = np.eye(3, dtype=int)
        i, j = rng.choice(3, 2, replace=False)
        shear[i, j] = rng.choice([-1, 1])
        matrix = matrix @ shear
    return matrix


def otherwise(structure: Structure, rng: np.random.Generator) -> Structure:
    """Return the same crystal in another cell."""
    order, lattice = rng.permutation(len(structure)), unimodular(rng)
    coords = (structure.frac_coords[order] + rng.random(3)) @ np.linalg.inv(lattice) % 1.0
    return Structure(Lattice(lattice @ structure.lattice.matrix), [structure[k].specie for k in order], coords)


def primitive(structure: Structure) -> Structure:
    """Return spglib's primitive cell."""
    import spglib

    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    lattice, coords, numbers = spglib.find_primitive(cell, symprec=0.01, angle_tolerance=5)
    return Structure(Lattice(lattice), numbers, coords)


def measure(n: int) -> dict[str, Any]:
    """Hash ``n`` eligible rows; return counts and times."""
    matcher, rng, timer = StructureMatcher(0.2, 0.3, 5), np.random.default_rng(1), Timer()
    by_hash, by_formula = defaultdict(list), defaultdict(list)
    eligible = kept = 0
    changed: list[str] = []
    for row in rows_by_md5(DATA):
        if eligible == n:
            break
        original = Structure.from_str(row["cif"], fmt="cif")
        try:
            encode(original)
        except SlicesError:
            continue
        eligible += 1
        digest = timer(net_hash, net_of(primitive(original)))
        if net_hash(net_of(primitive(otherwise(original, rng)))) == digest:
            kept += 1
        else:
            changed.append(row["material_id"])
        by_hash[digest].append(original)
        by_formula[original.composition.reduced_formula].append((digest, original))
    shared = [pair for held in by_hash.values() for pair in combinations(held, 2)]
    split = [
        1
        for held in by_formula.values()
        for (one, a), (other, b) in combinations(held, 2)
        if one != other and matcher.fit(a, b)
    ]
    return {
        "kept": kept, "eligible": eligible, "changed": changed, "timer": timer, "split": len(split),
        "shared": len(shared), "shared, not one crystal": sum(not matcher.fit(a, b) for a, b in shared),
        "shared, other formula": sum(a.composition.reduced_formula != b.composition.reduced_formula for a, b in shared),
    }  # fmt: skip


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="eligible rows (default 1,000)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_file():
        parser.exit(2, "No data: set CRYSGEN_TEST_DATA to the folder that holds mp20_part.csv.gz.\n")
    warnings.simplefilter("ignore")
    found = measure(arguments.n)
    table: dict[str, Any] = {"same hash in another cell": share(found["kept"], found["eligible"])}
    for name in ("shared", "shared, not one crystal", "shared, other formula", "split"):
        table[f"pairs {name}"] = {"value": found[name], "unit": "pairs"}
    table["hashing, median"] = {"value": statistics.median(found["timer"].ms), "unit": "ms"}
    table["hashing, mean"] = {"value": statistics.fmean(found["timer"].ms), "unit": "ms"}
    for name, entry in table.items():
        entry.setdefault("interval", None)
        entry["bar"] = BAR if name.startswith("same hash") else None
        entry["met"] = None if entry["bar"] is None else entry["value"] >= BAR
        interval = "" if entry["interval"] is None else "  [{:.2f}, {:.2f}]".format(*entry["interval"])
        bar = "" if entry["bar"] is None else f"  bar {BAR}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {name:<32} {entry['value']:8.3f} {entry['unit']}{interval}{bar}")
    print("  changed:", ", ".join(found["changed"]) or "none")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
