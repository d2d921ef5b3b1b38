"""How unlike known crystals is a crystal? Fingerprints of its sites by matminer, and the distance to the nearest.

A crystal's fingerprint holds mean, standard deviation, minimum and maximum over its sites of matminer's
``CrystalNNFingerprint`` (preset ``ops``: 61 local order parameters weighted by the likelihood of each coordination
number), as in N. E. R. Zimmermann and A. Jain, RSC Adv. 10, 6063 (2020). Its dissimilarity to a set is the least
Euclidean distance to the fingerprints of the set; the MatterGPT piezoelectrics paper asks for at least 0.75. It says
how unlike the surroundings of the atoms are: elements do not enter it.

Sites that symmetry maps onto each other have the same fingerprint, so one of each orbit is asked; what differs from
asking them all is rounding (:data:`ORBIT_SYMPREC`). A site costs about 25 ms, a crystal of a data set 0.15 s (0.25 s if
all its sites were asked), so the fingerprints of a set are made once and kept as a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.symmetry import equivalent_sites
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.crystals.workers import Workers

if TYPE_CHECKING:
    from pymatgen.core import Structure

Floats = npt.NDArray[np.float64]

#: Column of the fingerprints in their table, and how many numbers each has: 61 order parameters, 4 statistics.
COLUMN, LENGTH = "fingerprint", 244
STATISTICS = ("mean", "std_dev", "minimum", "maximum")
#: Rows of a finished part.
PART_ROWS = 32
#: Settings of the site fingerprint besides its preset; no cut-off and no weight of electronegativity differences.
SITE = {"distance_cutoffs": None, "x_diff_weight": 0}

#: Sites are of one orbit if symmetry maps them onto each other this closely [A]. Weights of neighbours are rounded and
#: sorted, so a site that is further off can have another fingerprint. This close, 1,999 of 2,001 crystals agree with
#: matminer to 1e-6, the others to 1e-3: at equivalent sites rounding alone can decide a threshold in pymatgen.
ORBIT_SYMPREC = 1e-6
#: The order parameter of eight neighbours that depends on the order in which they are listed.
ORDERED = "body-centered cubic"

#: Denser crystals are no crystals, and the search for their neighbours does not end [A^3 per atom].
MIN_VOLUME_PER_ATOM = 1.0

INSTALL = "pip install 'crysgen-aiida[fingerprints]'"

Cell = tuple[list[float], list[int], list[float]]  # lattice (9) [A], numbers (n), fractional coordinates (3 n)
Result = tuple[list[float] | None, str | None]  # fingerprint, or why there is none
Maker = Callable[[list[Cell]], list[Result]]  # e.g. Workers.map


def method() -> str:
    """Return what makes the fingerprints here, e.g. ``matminer-0.10.1``.

    :raises NotInstalled: if matminer is not there.
    """
    try:
        return f"matminer-{version('matminer')}"
    except PackageNotFoundError:
        raise NotInstalled(
            f"Fingerprints of crystals are made by matminer, which is not installed here; run `{INSTALL}` where the "
            "worker runs."
        ) from None


def fingerprint_set(crystals: CrystalSet, *, labelled: Iterable[str] = (), run: Run) -> PropertyTable:
    """Return the fingerprints of a set, one row a crystal; rows without one say why.

    :param labelled: properties; rows that lack one of them are skipped, e.g. ``piezo_max`` for the crystals whose
        piezoelectric tensor is known.
    :returns: ``content_id``, ``reduced_formula`` and ``fingerprint`` (244 numbers) by row; the metadata holds the
        method and its settings.
    :raises NotInstalled: if matminer is not there.
    :raises ImpossibleRequest: if the set has no column of that name.
    """
    made_by, asked = method(), tuple(labelled)
    lacking = [name for name in asked if name not in crystals.columns]
    if lacking:
        raise ImpossibleRequest(
            f"The set has no labels {', '.join(lacking)}; it has {', '.join(sorted(crystals.column_stats()))}."
        )
    held = np.all([np.isfinite(crystals.values(name)) for name in asked], axis=0) if asked else None

    with fingerprint_workers(run, len(crystals)) as workers:

        def part(rows: range) -> PropertyTable:
            records = [crystals.get(row) for row in rows]
            results = _judge(records, [held is None or bool(held[row]) for row in rows], asked, workers.map)
            return _table(rows, records, results)

        table = run.map_rows("fingerprint", len(crystals), part, part_rows=PART_ROWS)
    settings = {"site": {"preset": "ops", **SITE}, "statistics": list(STATISTICS)}
    return table.with_metadata(method=made_by, settings=settings, labelled=list(asked))


def fingerprint_workers(run: Run, n: int) -> Workers[Cell, Result]:
    """Return the processes that make ``n`` fingerprints; their ``map`` is what :func:`fingerprints_of` takes."""
    return Workers(_fingerprint, run, n, chunk=1)


def fingerprints_of(structures: Sequence[Structure | None], make: Maker | None = None) -> list[Result]:
    """Return the fingerprint of each crystal or the reason why there is none.

    :param make: of :func:`fingerprint_workers`; by default they are made in this process.
    :raises NotInstalled: if matminer is not there.
    """
    method()
    make = make or _here
    cells = [(k, _cell(s)) for k, s in enumerate(structures) if s is not None]
    results: list[Result] = [(None, "there is no crystal to compare")] * len(structures)
    for (k, _), result in zip(cells, make([c for _, c in cells]), strict=True):
        results[k] = result
    return results


class KnownFingerprints:
    """The fingerprints of one set or several, to find the nearest among.

    :param tables: by label, as :func:`fingerprint_set` made them.
    :raises BadInput: if one is no table of fingerprints, holds none, or was made by another method than the others.
    """

    def __init__(self, tables: dict[str, PropertyTable]) -> None:
        parts, self._where, methods = [], list[tuple[str, int]](), set[str]()
        for label, table in sorted(tables.items()):
            if COLUMN not in table.columns:
                raise BadInput(f"The table {label!r} holds no fingerprints; make one with the verb 'fingerprint'.")
            known = [(int(r), v) for r, v in zip(table.column("parent_row"), table.column(COLUMN), strict=True) if v]
            if not known:
                raise BadInput(f"The table {label!r} has no row with a fingerprint; see the reasons it gives.")
            parts.append(np.array([v for _, v in known], dtype=float))
            self._where += [(label, row) for row, _ in known]
            methods.add(table.metadata.get("method", "unknown"))
        if len(methods) > 1:
            raise BadInput(f"The tables of fingerprints were made by {' and '.join(sorted(methods))}: make one anew.")
        self.method = methods.pop() if methods else ""
        self._known: Floats = np.concatenate(parts) if parts else np.zeros((0, LENGTH))

    def __len__(self) -> int:
        return len(self._where)

    def nearest(self, fingerprint: Sequence[float]) -> tuple[float, str, int]:
        """Return the distance to the nearest known crystal, the label of its set and its row there."""
        distances = np.linalg.norm(self._known - np.asarray(fingerprint, dtype=float), axis=1)
        best = int(np.argmin(distances))
        return float(distances[best]), *self._where[best]


def _here(cells: list[Cell]) -> list[Result]:
    return [_fingerprint(cell) for cell in cells]


@cache
def _featurizers() -> tuple[Any, Any]:
    """Return what makes the fingerprint of a site, and what makes only the part of it named :data:`ORDERED`."""
    try:
        from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
    except ImportError as error:
        raise NotInstalled(f"matminer cannot be imported here ({error}); run `{INSTALL}`.") from error
    return CrystalNNFingerprint.from_preset("ops", **SITE), CrystalNNFingerprint({8: [ORDERED]}, **SITE)


def _site_values(structure: Structure) -> Floats:
    """Return the fingerprints of all sites (n, 61), made at one site of each orbit.

    pymatgen's parameter ``bcc`` counts each pair of neighbours once, as (j, k) and not as (k, j), which is not the
    same. Equivalent sites list neighbours of equal weight in different order, so this one is made at each of them.
    """
    site, ordered = _featurizers()
    chosen, orbit = _orbits(structure)
    values: Floats = np.array([site.featurize(structure, int(k)) for k in chosen], dtype=float)[orbit]
    labels = site.feature_labels()
    weight, column = labels.index("wt CN_8"), labels.index(f"{ORDERED} CN_8")
    for k in np.setdiff1d(np.flatnonzero(values[:, weight]), chosen):
        values[k, column] = ordered.featurize(structure, int(k))[0]
    return values


def _orbits(structure: Structure) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return one site of each orbit, and for each site the number of its orbit; elements do not enter."""
    n = len(structure)
    try:
        alike = equivalent_sites(structure.lattice.matrix, structure.frac_coords, np.ones(n), ORBIT_SYMPREC)
    except BadInput:  # no symmetry was found: every site is asked
        alike = np.arange(n)
    _, chosen, orbit = np.unique(alike, return_index=True, return_inverse=True)
    return chosen, orbit


def _statistics(values: Floats) -> Floats:
    """Return :data:`STATISTICS` of each column, those of the first column first, as ``SiteStatsFingerprint`` does."""
    return np.stack([values.mean(0), values.std(0), values.min(0), values.max(0)], axis=1).ravel()


def _fingerprint(cell: Cell) -> Result:
    import warnings

    from pymatgen.core import Lattice, Structure

    lattice, numbers, frac = cell
    structure = Structure(Lattice(np.reshape(lattice, (3, 3))), numbers, np.reshape(frac, (-1, 3)))  # type: ignore[arg-type]
    if structure.volume < MIN_VOLUME_PER_ATOM * len(structure):
        per_atom = structure.volume / len(structure)
        return None, f"it cannot be fingerprinted: {per_atom:.2g} A^3 per atom is below {MIN_VOLUME_PER_ATOM:g}"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            values = _statistics(_site_values(structure))
    # CrystalNN and the Voronoi tessellation under it fail in many ways on odd cells
    except (ValueError, ArithmeticError, IndexError, KeyError, TypeError, RuntimeError) as error:
        text = (str(error).strip().splitlines() or ["no message"])[0]
        return None, f"matminer cannot fingerprint it ({type(error).__name__}: {text[:80]})"
    if len(values) != LENGTH or not np.isfinite(values).all():
        return None, "its fingerprint has a value that is not a finite number"
    return values.tolist(), None


def _judge(
    records: list[dict[str, Any]], held: list[bool], asked: tuple[str, ...], make: Maker
) -> list[tuple[str, Result]]:
    """Return status and fingerprint of some rows."""
    found: dict[int, tuple[str, Result]] = {}
    cells: list[tuple[int, Cell]] = []
    for k, (record, wanted) in enumerate(zip(records, held, strict=True)):
        if record["status"] != schema.STATUS_OK or record["lattice"] is None:
            found[k] = schema.STATUS_FAILED, (None, f"there is no crystal: {record['reason']}")
        elif not wanted:
            found[k] = schema.STATUS_SKIPPED, (None, f"it has no {' or no '.join(asked)}, so it was not asked for")
        else:
            cells.append((k, (record["lattice"], record["numbers"], record["frac_coords"])))
    for (k, _), result in zip(cells, make([c for _, c in cells]), strict=True):
        found[k] = schema.STATUS_OK if result[0] else schema.STATUS_FAILED, result
    return [found[k] for k in range(len(records))]


def _table(rows: range, records: list[dict[str, Any]], results: list[tuple[str, Result]]) -> PropertyTable:
    text = pa.string()
    return PropertyTable(
        pa.table(
            {
                "content_id": pa.array([r["content_id"] for r in records], type=text),
                "status": pa.array([status for status, _ in results], type=text),
                "reason": pa.array([reason for _, (_, reason) in results], type=text),
                "parent_input": pa.array(["crystals"] * len(rows), type=text),
                "parent_row": pa.array(rows, type=pa.int64()),
                "reduced_formula": pa.array([r["reduced_formula"] for r in records], type=text),
                COLUMN: pa.array([values for _, (values, _) in results], type=pa.list_(pa.float32(), LENGTH)),
            }
        )
    )


def _cell(structure: Structure) -> Cell:
    numbers = [int(site.specie.Z) for site in structure]
    return structure.lattice.matrix.ravel().tolist(), numbers, structure.frac_coords.ravel().tolist()
