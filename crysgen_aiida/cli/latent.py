"""The latent space of a generator as a picture: two of its dimensions, coloured by a property."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from crysgen_aiida.cli.pictures import plain_style
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.data.generator import CONFIG, WEIGHTS, GeneratorData, describe, read_folder
from crysgen_aiida.generators.latent_points import LatentPoints, read_latent_points, steepest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crysgen_aiida.crystals.table import SequenceSet

#: Columns of the table of dimensions.
COLUMNS = ("property", "of", "points", "dimension", "change", "spread", "width")
#: Share of the points at each end whose colour is that of the end: a few extremes would leave all others one colour.
ENDS = 0.01


def find_latent(text: str) -> LatentPoints:
    """Return the latent space of a generator of the profile, or of a checkpoint folder.

    :raises ImpossibleRequest: if it has none.
    :raises BadInput: if the folder is no whole checkpoint.
    :raises CorruptWeights: if its weights are damaged.
    """
    folder = Path(text)
    if (folder / WEIGHTS).is_file():
        contents = read_folder(folder)
        describe(contents)  # refuses a checkpoint that is damaged
        return read_latent_points(contents[WEIGHTS], json.loads(contents[CONFIG]))
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.cli.profiles import open_profile

    open_profile()
    node: GeneratorData = load(text, GeneratorData, "generator (nor a folder with a checkpoint)")
    held = node.base.repository
    config = json.loads(held.get_object_content(CONFIG, mode="r"))
    return read_latent_points(held.get_object_content(WEIGHTS, mode="rb"), config)


def values_of(points: LatentPoints, name: str | None, of: str) -> tuple[str, np.ndarray]:
    """Return the name of a property the model has learned, the first by default, and its values.

    :param of: ``label`` or ``predicted``.
    :raises click.ClickException: if the model has not learned it.
    """
    known: Mapping[str, np.ndarray] = points.labels if of == "label" else points.predicted
    if not known or (name is not None and name not in known):
        raise click.ClickException(
            f"The model has learned {', '.join(known) or 'no property'}" + (f", not {name}." if name else ".")
        )
    name = name or next(iter(known))
    return name, known[name]


def find_designs(text: str, dimensions: int) -> np.ndarray:
    """Return the points (n, Z) of the designs of a set (a node or a Parquet file) or of a run that sampled one.

    :raises click.ClickException: if they lie in no latent space, or in one of other dimensions.
    """
    path = Path(text)
    held = _designs_of_file(path) if path.is_file() else _designs_of_node(text)
    if "latent" not in held.columns:
        raise click.ClickException(f"The designs of {text!r} come from no latent space.")
    found = np.array([point for point in held.column("latent") if point is not None], dtype=float)
    if not len(found) or found.shape[1] != dimensions:
        size = f"have {found.shape[1]} dimensions" if len(found) else "are none"
        raise click.ClickException(f"The designs of {text!r} {size}; the latent space has {dimensions}.")
    return found


def _designs_of_file(path: Path) -> SequenceSet:
    from crysgen_aiida.crystals.table import SequenceSet

    return SequenceSet.read(path)


def _designs_of_node(text: str) -> SequenceSet:
    from aiida import orm

    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.cli.profiles import open_profile
    from crysgen_aiida.data.packed import SequenceSetData
    from crysgen_aiida.store.candidates import of_process

    open_profile()
    node = load(text, (SequenceSetData, orm.ProcessNode), "set of designs or run")
    node = of_process(node).sequences if isinstance(node, orm.ProcessNode) else node
    if node is None:
        raise click.ClickException(f"The run {text} sampled nothing.")
    table: SequenceSet = node.table
    return table


def ordered(points: LatentPoints, values: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return the dimensions along which a property changes most, those in use first, and the changes (Z,)."""
    order, changes = steepest(points.means, values)
    return sorted(order, key=lambda d: not points.used[d]), changes


def rows(points: LatentPoints, name: str, of: str, values: np.ndarray, most: int = 10) -> list[dict[str, Any]]:
    """Return the dimensions along which a property changes most, a record each."""
    order, changes = ordered(points, values)
    n, spread = int(np.isfinite(values).sum()), points.means.std(axis=0)
    return [
        {
            "property": name, "of": of, "points": n, "dimension": d, "change": float(changes[d]),
            "spread": float(spread[d]), "width": float(points.widths[d]),
        }
        for d in order[:most]
    ]  # fmt: skip


@plain_style()
def latent_figure(
    points: LatentPoints, name: str, of: str, values: np.ndarray, designs: np.ndarray | None = None
) -> Figure:
    """Return the points in the two dimensions along which a property changes most, and designs (n, Z) among them."""
    from matplotlib.figure import Figure

    if points.means.shape[1] < 2:
        raise click.ClickException("The latent space has one dimension only: there is no plane to draw.")
    (first, second, *_), _ = ordered(points, values)
    known = np.isfinite(values)
    low, high = np.quantile(values[known], [ENDS, 1 - ENDS])
    unit = get_property(name).unit
    figure = Figure(figsize=(7, 5.6), layout="constrained")
    axes = figure.add_subplot(xlabel=f"dimension {first}", ylabel=f"dimension {second}")
    shared: Any = {"s": 6, "linewidths": 0, "rasterized": True}
    x, y = points.means[:, first], points.means[:, second]
    axes.scatter(x[~known], y[~known], color="0.85", **shared)
    drawn = axes.scatter(x[known], y[known], c=values[known], cmap="viridis", vmin=low, vmax=high, **shared)
    if designs is not None:
        axes.plot(
            designs[:, first], designs[:, second], linestyle="none", marker="o", markersize=4, color="none",
            markeredgecolor="tab:red", markeredgewidth=0.8, label=f"{len(designs)} designs",
        )  # fmt: skip
        axes.legend(loc="upper right")
    label = f"{name} ({of})" + (f" [{unit}]" if unit else "")
    figure.colorbar(drawn, ax=axes, label=label, extend="both")
    return figure
