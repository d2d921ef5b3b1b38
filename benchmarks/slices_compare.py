"""The published package ``slices`` beside this one: speed, and how many crystals survive, on the same rows in one run.

Both get the same CIF, encode it with the space-group prefix and decode their own string without a potential. Calls
alternate row by row, so that a busy machine slows both. Times are processor times of single calls, with those of the
``xtb`` processes the package starts, and times by the clock. One matcher judges both.

The package needs an environment of its own, under Python 3.11 (it uses distutils and TensorFlow 2)::

    python3.11 -m venv ENV
    ENV/bin/pip install "tensorflow-cpu==2.15.1" "numpy<2" "pymatgen==2024.2.8" "ase<3.23" "scipy<1.14" \
        sympy networkx matplotlib pandas "setuptools<70" cython
    ENV/bin/pip install --no-deps slices==2.0.12 m3gnet==0.2.4
    chmod +x ENV/lib/python3.11/site-packages/slices/xtb_*      # pip keeps this bit, unzip loses it

It writes to ``/dev/shm``. Then::

    python benchmarks/slices_roundtrip.py --published ENV/bin/python [--compare 200] [--json FILE]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crysgen_aiida.representations.slices import SlicesError, SlicesSpec, decode, encode

CHILD = Path(__file__).with_name("slices_published.py")
ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")

#: How many times faster this package has to be.
BARS = {"encoding": 8.0, "decoding": 30.0}


@dataclass
class Side:
    """What one of the two packages did: times [ms], strings, and whether rows match (strictly, loosely)."""

    encoding: list[tuple[float, float]] = field(default_factory=list)
    decoding: list[tuple[float, float]] = field(default_factory=list)
    strings: list[str | None] = field(default_factory=list)
    strict: list[bool] = field(default_factory=list)
    loose: list[bool] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def judge(
        self, original: Structure, found: Structure | None, strict: StructureMatcher, loose: StructureMatcher
    ) -> None:
        """Note whether the decoded crystal is the original one."""
        self.strict.append(found is not None and bool(strict.fit(original, found)))
        self.loose.append(found is not None and (self.strict[-1] or bool(loose.fit(original, found))))


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, tuple[float, float]]:
    """Return the result and processor and wall time [ms]."""
    processor, wall = time.process_time(), time.perf_counter()
    result = call(*arguments)
    return result, (1e3 * (time.process_time() - processor), 1e3 * (time.perf_counter() - wall))


def decoded(string: str, spec: SlicesSpec) -> Structure | str:
    """Return what a string decodes to, or the reason why it does not."""
    try:
        return decode(string, spec).structure()
    except SlicesError as error:
        return error.reason


def compare(python: Path, rows: list[dict[str, str]], n: int) -> tuple[dict[str, Any], Side, Side]:
    """Let both packages encode and decode the first ``n`` rows that this one can encode.

    :return: versions of the published side; this side; the published side.
    """
    ours, theirs, spec = Side(), Side(), SlicesSpec()
    matchers = StructureMatcher(0.2, 0.3, 5), StructureMatcher(0.3, 0.5, 10)
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [str(python), str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        versions: dict[str, Any] = json.loads(child.stdout.readline() or "{}")
        if not versions:
            raise SystemExit(f"{python} cannot import the package slices; see the top of {Path(__file__).name}.")
        for row in rows:
            if len(ours.strings) == n:
                break
            original = Structure.from_str(row["cif"], fmt="cif")
            try:
                string, took = timed(encode, original, spec)
            except SlicesError:
                continue
            ours.strings.append(string)
            ours.encoding.append(took)
            found, took = timed(decoded, string, spec)
            ours.decoding.append(took)
            if isinstance(found, str):
                ours.failed[found] += 1
            ours.judge(original, None if isinstance(found, str) else found, *matchers)
            child.stdin.write(json.dumps({"cif": row["cif"]}) + "\n")
            child.stdin.flush()
            take(json.loads(child.stdout.readline()), original, theirs, matchers)
    return versions, ours, theirs


def take(answer: dict[str, Any], original: Structure, side: Side, matchers: tuple[Any, Any]) -> None:
    """Note what the published package answered."""
    side.strings.append(answer["string"] and answer["string"].rstrip())  # it ends in a blank
    side.encoding.append(tuple(answer["encode_ms"]))
    if "decode_ms" in answer:
        side.decoding.append(tuple(answer["decode_ms"]))
    error = answer["encode_error"] or answer.get("decode_error")
    if error:
        side.failed[error.partition(":")[0]] += 1
    found = None
    if "lattice" in answer:
        found = Structure(Lattice(answer["lattice"]), answer["numbers"], answer["frac_coords"])
    side.judge(original, found, *matchers)


def figures(ours: Side, theirs: Side, share: Callable[[int, int], dict[str, Any]]) -> dict[str, Any]:
    """Turn both sides into figures with units, intervals and bars."""
    n = len(ours.strings)
    table: dict[str, Any] = {"rows compared": {"value": n, "unit": "rows"}}
    for what in ("encoding", "decoding"):
        for k, clock in enumerate(("processor", "wall")):
            here, there = ([t[k] for t in getattr(side, what)] for side in (ours, theirs))
            for name, average in (("median", statistics.median), ("mean", statistics.fmean)):
                key = f"{what}, {clock} time, {name}"
                table[f"{key}: ours"] = {"value": average(here), "unit": "ms"}
                table[f"{key}: published"] = {"value": average(there), "unit": "ms"}
                table[f"{key}: ratio"] = {"value": average(there) / average(here), "unit": "x", "bar": BARS[what]}
    same = sum(a == b for a, b in zip(ours.strings, theirs.strings, strict=True))
    table["equal strings, but for a blank at the end"] = share(same, n)
    for kind in ("strict", "loose"):
        here, there = getattr(ours, kind), getattr(theirs, kind)
        table[f"{kind} match: ours"] = share(sum(here), n)
        table[f"{kind} match: published"] = share(sum(there), n)
        table[f"{kind} match: only ours"] = {
            "value": sum(a and not b for a, b in zip(here, there, strict=True)),
            "unit": "rows",
        }
        table[f"{kind} match: only published"] = {
            "value": sum(b and not a for a, b in zip(here, there, strict=True)), "unit": "rows"
        }  # fmt: skip
    return table
