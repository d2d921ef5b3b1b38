"""Pictures of what a verification computed, from the nodes it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from crysgen_aiida.cli.pictures import plain_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Greek letters and subscripts in labels of high-symmetry points.
_GAMMA = {"GAMMA": "Γ", "G": "Γ", "SIGMA": "Σ", "LAMBDA": "Λ", "DELTA": "Δ"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
#: Directions in a plane of a picture of Young's modulus.
_DIRECTIONS = 361


def figure_of(address: str, what: str) -> tuple[Figure, str]:
    """Return a picture of the newest result of a candidate, and what it shows.

    :param address: in full.
    :param what: ``phonon``, ``bands``, ``elastic`` or ``transport``.
    :raises click.ClickException: if no verification computed it.
    """
    process, row = _newest(address, what)
    formula = process.inputs.crystals.get(row)["reduced_formula"]
    for key, node in _nodes(process, row, what):
        title = f"{_TITLES[what]} of {formula} ({address[:8]}:{row}, {key})"
        return _DRAWN[what](node, process, row), title
    raise click.ClickException(f"The verification {process.pk} kept no {what} of {address}.")


# -- what was computed ------------------------------------------------------------------------------------------------


def _newest(address: str, what: str) -> tuple[Any, int]:
    from aiida import orm

    uuid, _, row = address.partition(":")
    query = orm.QueryBuilder().append(orm.Data, filters={"uuid": uuid}, tag="set")
    query.append(
        orm.WorkChainNode,
        filters={"process_type": "aiida.workflows:crysgen.verify"},
        with_incoming="set",
        tag="process",
        project="*",
    )
    query.order_by({"process": {"id": "desc"}})
    for process in query.all(flat=True):
        if int(row) in process.inputs.rows.get_list() and any(_nodes(process, int(row), what)):
            return process, int(row)
    raise click.ClickException(
        f"No verification computed {_TITLES[what].lower()} of {address[:8]}:{row}; run `crysgen verify "
        f"{address[:8]}:{row} --stages {'dfpt' if what == 'tensors' else what}`."
    )


def _nodes(process: Any, row: int, what: str) -> list[tuple[str, Any]]:
    """Return ``(step, node or row of a table)`` of what a verification keeps of a candidate, engines before potentials.

    Of a table the row is returned.
    """
    found: list[tuple[str, Any]] = []
    made = process.outputs.made if "made" in process.outputs else {}
    for label, outputs in _items(made):
        which, _, step = label.partition("_")
        if which == f"r{row}" and _OUTPUT.get(what) in outputs:
            found.append((step, outputs[_OUTPUT[what]]))
    if what in ("phonon", "elastic") and "sets" in process.outputs:
        for step, table in _items(process.outputs.sets):
            if not step.startswith(f"{what}_"):
                continue
            records = [r for r in table.iter() if r["status"] == "ok" and _candidate(process, table, r) == row]
            found += [(step, record) for record in records]
    return found


def _items(namespace: Any) -> list[tuple[str, Any]]:
    return [(name, namespace[name]) for name in namespace]


def _candidate(process: Any, table: Any, record: Mapping[str, Any]) -> int | None:
    """Return the candidate a row of a table is of: back through the sets, one link after the other."""
    node, position = table, record["row"]
    while node.uuid != process.inputs.crystals.uuid:
        parent = node.get(position)
        creator = node.creator
        if parent["parent_row"] is None or creator is None or parent["parent_input"] not in creator.inputs:
            return None
        node, position = creator.inputs[parent["parent_input"]], int(parent["parent_row"])
    return int(position)


# -- the pictures -----------------------------------------------------------------------------------------------------


@plain_style()
def phonon_figure(record: Mapping[str, Any]) -> Figure:
    """Return phonon bands along the path beside the density of states, from a row of a table of phonons."""
    from matplotlib.figure import Figure

    lattice = np.array(record["primitive_lattice"]).reshape(3, 3)
    qpoints = np.array(record["band_qpoints"], dtype=float).reshape(-1, 3)
    frequencies = np.array(record["band_frequencies"], dtype=float).reshape(len(qpoints), -1)
    ends = list(zip(record["band_labels"][::2], record["band_labels"][1::2], strict=True))
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    _draw_bands(left, qpoints @ np.linalg.inv(lattice).T, frequencies, record["band_lengths"], ends)
    left.set_ylabel("frequency [THz]")
    left.axhline(0.0, color="0.5", linewidth=0.8)
    right.plot(record["dos"], record["dos_frequencies"], color="C0")
    right.set_xlabel("states / THz")
    right.set_xlim(left=0.0)
    return figure


@plain_style()
def bands_figure(node: Any, fermi: float | None = None) -> Figure:
    """Return bands along a path from a ``BandsData`` node, energies from the Fermi level if it is known."""
    from matplotlib.figure import Figure

    kpoints, bands = node.get_kpoints(cartesian=True) / (2 * np.pi), np.atleast_3d(node.get_bands().T).T
    labels = dict(node.labels or [])
    cuts = sorted(set(labels) | {0, len(kpoints) - 1})
    lengths, ends = [], []
    for first, last in pairwise(cuts):
        if last - first > 1 or len(cuts) == 2:
            lengths.append((first, last + 1))
            ends.append((labels.get(first, ""), labels.get(last, "")))
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    shift = fermi or 0.0
    for spin, values in enumerate(bands):
        points = np.concatenate([kpoints[a:b] for a, b in lengths])
        energies = np.concatenate([values[a:b] for a, b in lengths]) - shift
        _draw_bands(axes, points, energies, [b - a for a, b in lengths], ends, colour=f"C{spin}")
    unit = node.units or "eV"
    axes.set_ylabel(f"energy from the Fermi level [{unit}]" if fermi is not None else f"energy [{unit}]")
    if fermi is not None:
        axes.axhline(0.0, color="0.5", linewidth=0.8)
    return figure


@plain_style()
def elastic_figure(tensor: Any) -> Figure:
    """Return Young's modulus by direction in the three planes of the axes.

    :param tensor: C_IJ [GPa], (6, 6), Voigt order xx yy zz yz xz xy.
    """
    from matplotlib.figure import Figure

    compliance = np.linalg.inv(np.asarray(tensor, dtype=float).reshape(6, 6))
    angles = np.linspace(0.0, 2 * np.pi, _DIRECTIONS)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, subplot_kw={"projection": "polar"})
    highest = 0.0
    for axes, (one, two, name) in zip(panels, ((0, 1, "xy"), (0, 2, "xz"), (1, 2, "yz")), strict=True):
        directions = np.zeros((_DIRECTIONS, 3))
        directions[:, one], directions[:, two] = np.cos(angles), np.sin(angles)
        modulus = young_modulus(compliance, directions)
        highest = max(highest, float(modulus.max()))
        axes.plot(angles, modulus)
        axes.set_title(f"{name} plane", fontsize=10)
    for axes in panels:
        axes.set_ylim(0.0, 1.05 * highest)
        axes.set_xticks(np.deg2rad([0, 45, 90, 135, 180, 225, 270, 315]))
        axes.tick_params(labelsize=7)
    figure.supxlabel("Young's modulus [GPa], IEEE axes", fontsize=9)
    return figure


def young_modulus(compliance: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return Young's modulus for a pull along directions [GPa], (n,).

    1 / E = n_i n_j n_k n_l s_ijkl (J. F. Nye, Physical Properties of Crystals, ch. VIII).

    :param compliance: s_IJ [1/GPa] in Voigt notation, (6, 6), engineering shears.
    :param directions: unit vectors, (n, 3).
    """
    x, y, z = directions.T
    squares = np.stack([x * x, y * y, z * z, y * z, x * z, x * y], axis=1)
    return np.asarray(1.0 / np.einsum("ni,ij,nj->n", squares, compliance, squares))


def _draw_bands(
    axes: Any,
    points: np.ndarray,
    values: np.ndarray,
    lengths: Sequence[int],
    ends: Sequence[tuple[str, str]],
    colour: str = "C0",
) -> None:
    """Draw segments one after the other; where one does not begin where the last ended, both names are written."""
    start = 0
    at = 0.0
    ticks: list[tuple[float, str]] = []
    for length, (first, last) in zip(lengths, ends, strict=True):
        segment = points[start : start + length]
        steps = np.linalg.norm(np.diff(segment, axis=0), axis=1)
        x: np.ndarray = at + np.concatenate([[0.0], np.cumsum(steps)])
        axes.plot(x, values[start : start + length], color=colour, linewidth=1.0)
        first, last = _point(first), _point(last)
        if ticks and ticks[-1][1] != first:
            ticks[-1] = (at, f"{ticks[-1][1]}|{first}")
        elif not ticks:
            ticks.append((at, first))
        at = float(x[-1])
        ticks.append((at, last))
        start += length
    axes.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
    for place, _ in ticks:
        axes.axvline(place, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlim(0.0, at)


def _point(label: str) -> str:
    name, _, index = label.partition("_")
    return _GAMMA.get(name.upper(), name) + index.translate(_SUBSCRIPTS)


def _draw_phonon(node: Any, process: Any, row: int) -> Figure:
    return phonon_figure(node) if isinstance(node, Mapping) else bands_figure(node)


def _draw_electrons(node: Any, process: Any, row: int) -> Figure:
    made = process.outputs.made
    for label, outputs in _items(made):
        if label.startswith(f"r{row}_bands") and "results" in outputs:
            fermi = outputs.results.get_dict()["facts"].get("fermi_energy")
            return bands_figure(node, None if fermi is None else float(fermi))
    return bands_figure(node)


def _draw_elastic(node: Any, process: Any, row: int) -> Figure:
    if isinstance(node, Mapping):
        return elastic_figure(node["elastic_tensor"])
    return elastic_figure(node.get_array("elastic_relaxed"))


def _draw_transport(node: Any, process: Any, row: int) -> Figure:
    from crysgen_aiida.cli.power_factors import power_factor_figure

    return power_factor_figure(node.table, 0)


#: What may be asked for to the output of an engine that holds it, how it is called and how it is drawn.
_OUTPUT = {"phonon": "phonon_bands", "bands": "bands", "elastic": "tensors", "transport": "table"}
_TITLES = {
    "phonon": "Phonons",
    "bands": "Electronic bands",
    "elastic": "Young's modulus",
    "transport": "Power factor",
}
_DRAWN = {"phonon": _draw_phonon, "bands": _draw_electrons, "elastic": _draw_elastic, "transport": _draw_transport}
