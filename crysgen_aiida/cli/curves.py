"""Learning curves: what the history of a training says, as rows and as a picture of one or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli.pictures import plain_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crysgen_aiida.data.generator import GeneratorData

#: Colours that people who see few colours can still tell apart (Okabe and Ito 2008), without yellow, hard to see here.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

#: Columns of the table of epochs.
COLUMNS = ("generator", "epoch", "step", "train_loss", "val_loss", "lr", "best")

#: Beyond single precision, in which losses are computed, a number is no loss (and nothing to plot).
_HUGE = 3.5e38

_BEST: Any = {"marker": "o", "markersize": 8, "markeredgecolor": "white", "linestyle": "none"}


@dataclass(frozen=True)
class Training:
    """One training: its name, and an epoch a record with ``epoch``, ``step``, ``train_loss``, ``val_loss``, ``lr``."""

    name: str
    epochs: tuple[dict[str, Any], ...]
    unit: str  #: of its losses, empty if they have none

    @property
    def best(self) -> dict[str, Any]:
        """The epoch whose weights were kept: of the lowest validation loss, the first of equals; without, the last."""
        judged = [epoch for epoch in self.epochs if epoch["val_loss"] is not None]
        return min(judged, key=lambda epoch: float(epoch["val_loss"])) if judged else self.epochs[-1]

    @property
    def judged(self) -> tuple[str, float]:
        """Which loss the best epoch was judged by, ``validation`` or ``training``, and its value."""
        best = self.best
        return ("training", best["train_loss"]) if best["val_loss"] is None else ("validation", best["val_loss"])

    def rows(self) -> list[dict[str, Any]]:
        """Return one row an epoch, the best one marked."""
        best = self.best
        return [{"generator": self.name, **epoch, "best": epoch is best} for epoch in self.epochs]


def find_training(text: str) -> Training:
    """Return the training a user means: of a generator of the profile, or of a checkpoint folder.

    :raises click.ClickException: if there is none, or it kept no losses.
    """
    folder = Path(text)
    if (folder / "history.jsonl").is_file():
        return _of_folder(folder)
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.cli.profiles import open_profile
    from crysgen_aiida.data.generator import GeneratorData

    open_profile()
    node: GeneratorData = load(text, GeneratorData, "generator (nor a folder with a history.jsonl)")
    name = f"{node.label} ({node.uuid[:8]})" if node.label else node.uuid[:8]
    return make_training(name, node.generator, node.history())


def make_training(name: str, generator: str, history: Sequence[dict[str, Any]]) -> Training:
    """Return a training from its history. What is no finite number (of single precision) counts as missing.

    :param name: what to call it.
    :param generator: entry-point name of the system.
    :raises click.ClickException: if there is no loss in it.
    """
    epochs = []
    for place, record in enumerate(history):
        losses = {key: _number(record.get(key)) for key in ("train_loss", "val_loss")}
        if any(value is not None for value in losses.values()):
            epoch, step = _whole(record.get("epoch")), _whole(record.get("step"))
            counted = place if epoch is None else epoch
            epochs.append({"epoch": counted, "step": step, **losses, "lr": _number(record.get("lr"))})
    if not epochs:
        raise click.ClickException(
            f"Generator {name} has no learning curve: {generator} kept no loss in its history, because it is not "
            "trained epoch by epoch. Leave it out."
        )
    return Training(name, tuple(epochs), _loss_unit(generator))


@plain_style()
def curve_figure(trainings: Sequence[Training], by: str = "epoch", first: int = 0) -> Figure:
    """Return the curves of one or several trainings in one plot, the best epoch of each marked.

    :param by: what to plot against, ``epoch`` or ``step`` (of the optimiser).
    :param first: epoch to begin with; what was before it is left out.
    :raises click.ClickException: if there are too many, they have other units, or one has nothing to plot.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    if len(trainings) > len(COLOURS):
        raise click.ClickException(f"{len(trainings)} curves cannot be told apart; plot at most {len(COLOURS)}.")
    units = list(dict.fromkeys(training.unit for training in trainings))
    if len(units) > 1:
        said = ", ".join(unit or "none" for unit in units)
        raise click.ClickException(f"These trainings count their losses in other units ({said}); plot them apart.")
    figure = Figure(figsize=(7.5, 4.6 + 0.2 * len(trainings)), layout="constrained")
    axes = figure.add_subplot(
        xlabel="step of the optimiser" if by == "step" else "epoch, counted from 0",
        ylabel=f"loss [{units[0]}]" if units[0] else "loss",
    )
    for training, colour in zip(trainings, COLOURS, strict=False):
        shown = [epoch for epoch in training.epochs if epoch["epoch"] >= first and epoch[by] is not None]
        if not shown:
            raise click.ClickException(f"The history of {training.name} names no {by} from epoch {first} on.")
        for key, line in (("train_loss", "--"), ("val_loss", "-")):
            points = [(epoch[by], epoch[key]) for epoch in shown if epoch[key] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), line, color=colour, marker="." if len(points) == 1 else "")
        if training.best in shown:
            axes.plot(training.best[by], training.judged[1], color=colour, **_BEST)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", alpha=0.4)
    kinds = [
        Line2D([], [], color="0.4", label="validation"),
        Line2D([], [], color="0.4", linestyle="--", label="training"),
        Line2D([], [], color="0.4", label="best epoch, by validation if there is one", **_BEST),
    ]
    figure.legend(handles=kinds, loc="outside upper left", ncols=3, frameon=False)
    names = [Line2D([], [], color=c, label=_said(t)) for t, c in zip(trainings, COLOURS, strict=False)]
    figure.legend(handles=names, loc="outside lower left", frameon=False)
    return figure


# -- where a history comes from ---------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> Training:
    import json

    from crysgen_aiida.crystals.errors import BadInput
    from crysgen_aiida.data.generator import CONFIG, HISTORY, read_history

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        generator = str(config["generator"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{folder} holds a {HISTORY} but no {CONFIG} that names its generator; copy it again.") from None
    return make_training(str(folder), generator, read_history((folder / HISTORY).read_bytes()))


def _loss_unit(generator: str) -> str:
    from crysgen_aiida.crystals.errors import CrysgenError
    from crysgen_aiida.generators.contract import get_generator

    try:
        return get_generator(generator).loss_unit
    except CrysgenError:  # trained elsewhere, by a system that is not installed here
        return ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _HUGE:
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _said(training: Training) -> str:
    which, loss = training.judged
    name = training.name if len(training.name) <= 48 else "…" + training.name[-47:]  # of paths, the end tells more
    return f"{name}: best {which} loss {loss:.4f} at epoch {training.best['epoch']}; {len(training.epochs)} epochs"
