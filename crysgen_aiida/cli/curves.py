"""Learning curves: what the history of a training says, as rows and as a picture of one or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli.shapes import SOFT, STYLES, Curve, Disc, Line, Picture, Shape, Words, shortened, width_of

if TYPE_CHECKING:
    from crysgen_aiida.data.generator import GeneratorData

#: Colours that people who see few colours can still tell apart (Okabe and Ito 2008), light ones left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa3377", "#5b4fb5", "#8a6100", "#56b4e9", "#222222")

#: Columns of the table of epochs.
COLUMNS = ("generator", "epoch", "step", "train_loss", "val_loss", "lr", "best")

#: Frame of the plot inside the picture [px].
_LEFT, _TOP, _WIDTH, _HEIGHT = 64.0, 52.0, 660.0, 330.0
_ROW = 21.0


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
    """Return a training from its history. What is no finite number counts as missing.

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


def curve_picture(trainings: Sequence[Training], by: str = "epoch", first: int = 0) -> Picture:
    """Return the curves of one or several trainings in one plot, the best epoch of each marked.

    :param by: what to plot against, ``epoch`` or ``step`` (of the optimiser).
    :param first: epoch to begin with; what was before it is left out.
    :raises click.ClickException: if there are too many, they have other units, or one has nothing to plot.
    """
    if len(trainings) > len(COLOURS):
        raise click.ClickException(f"{len(trainings)} curves cannot be told apart; plot at most {len(COLOURS)}.")
    units = list(dict.fromkeys(training.unit for training in trainings))
    if len(units) > 1:
        said = ", ".join(unit or "none" for unit in units)
        raise click.ClickException(f"These trainings count their losses in other units ({said}); plot them apart.")
    shown = [[e for e in training.epochs if e["epoch"] >= first] for training in trainings]
    for training, epochs in zip(trainings, shown, strict=True):
        if not any(epoch[by] is not None for epoch in epochs):
            raise click.ClickException(f"The history of {training.name} names no {by} from epoch {first} on.")
    losses = [e[k] for epochs in shown for e in epochs for k in ("train_loss", "val_loss") if e[k] is not None]
    places = [e[by] for epochs in shown for e in epochs if e[by] is not None]
    across, up = ticks(min(places), max(places), whole=True), ticks(min(losses), max(losses))
    frame = _Frame((min(places), max(places)), (min(up[0], min(losses)), max(up[-1], max(losses))))
    words = "loss" + (f" [{units[0]}]" if units[0] else "")
    shapes = [*_axes(frame, across, up, "step of the optimiser" if by == "step" else "epoch, counted from 0", words)]
    for epochs, colour in zip(shown, COLOURS, strict=False):
        shapes += _curves(frame, epochs, by, colour)
    for training, epochs, colour in zip(trainings, shown, COLOURS, strict=False):
        shapes += _best(frame, training, epochs, by, colour)
    shapes += _key(trainings)
    height = _TOP + _HEIGHT + 62 + _ROW * len(trainings)
    label = "Learning curve of " + ", ".join(training.name for training in trainings)
    return Picture(_LEFT + _WIDTH + 26, height, tuple(shapes), label)


def ticks(low: float, high: float, about: int = 6, *, whole: bool = False) -> list[float]:
    """Return round numbers, evenly spaced, from at or below ``low`` to at or above ``high``.

    :param about: how many there should be.
    :param whole: only whole numbers, and none outside of the range.
    """
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # equal but for rounding: nothing to divide
        span = 0.2 * abs(low) or 1.0
        low, high = low - span / 2, high + span / 2
    raw = span / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    if whole:
        step = max(1.0, float(round(step)))
        inside = range(math.ceil(low / step), math.floor(high / step) + 1)
        return [n * step for n in inside] or [low]
    return [n * step for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


# -- drawing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """From numbers to places in the picture."""

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return _LEFT + _WIDTH * ((value - low) / (high - low) if high > low else 0.5)

    def y(self, value: float) -> float:
        low, high = self.up
        return _TOP + _HEIGHT * (1 - (value - low) / (high - low))


def _axes(frame: _Frame, across: Sequence[float], up: Sequence[float], x_words: str, y_words: str) -> list[Shape]:
    base, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    shapes: list[Shape] = []
    for value in up:
        y = frame.y(value)
        shapes += [Line(_LEFT, y, right, y, "grid"), Words(_LEFT - 8, y + 4, f"{value:.6g}", "label", "end")]
    for value in across:
        x = frame.x(value)
        shapes += [Line(x, base, x, base + 5, "axis"), Words(x, base + 19, f"{value:.6g}", "label", "middle")]
    shapes += [Line(_LEFT, base, right, base, "axis"), Line(_LEFT, _TOP, _LEFT, base, "axis")]
    shapes.append(Words(_LEFT + _WIDTH / 2, base + 38, x_words, "label", "middle"))
    shapes.append(Words(18, _TOP + _HEIGHT / 2, y_words, "label", "middle", turn=-90))
    return shapes


def _curves(frame: _Frame, epochs: Sequence[dict[str, Any]], by: str, colour: str) -> list[Shape]:
    """Return both curves of a training; one that has a single point is a dot."""
    shapes: list[Shape] = []
    for key, kind in (("train_loss", "thin"), ("val_loss", "curve")):
        points = [(frame.x(e[by]), frame.y(e[key])) for e in epochs if e[key] is not None and e[by] is not None]
        if len(points) > 1:
            shapes.append(Curve(tuple(points), kind, colour))
        shapes += [Disc(x, y, 2.5, "mark", colour) for x, y in points if len(points) == 1]
    return shapes


def _best(frame: _Frame, training: Training, epochs: Sequence[dict[str, Any]], by: str, colour: str) -> list[Shape]:
    best = training.best
    if best not in epochs or best[by] is None:
        return []  # before the part that is shown
    return [Disc(frame.x(best[by]), frame.y(_judged(best)), 5.5, "mark", colour, _said(training))]


def _key(trainings: Sequence[Training]) -> list[Shape]:
    """Return what the lines mean, above the plot, and a line about each training under it."""
    grey, x, y = SOFT, _LEFT, 30.0
    shapes: list[Shape] = []
    for words, kind in (("validation", "curve"), ("training", "thin")):
        shapes += [Curve(((x, y - 4), (x + 30, y - 4)), kind, grey), Words(x + 37, y, words, "label")]
        x += 120
    shapes += [
        Disc(x + 6, y - 4, 5.5, "mark", grey),
        Words(x + 18, y, "best epoch, by validation if there is one", "label"),
    ]
    top = _TOP + _HEIGHT + 64
    for place, (training, colour) in enumerate(zip(trainings, COLOURS, strict=False)):
        line = top + _ROW * place
        said = _said(training)
        size = STYLES["label"].size
        name = shortened(training.name, _WIDTH - 42 - width_of(said, size), size, tail=True)
        shapes += [Curve(((_LEFT, line - 4), (_LEFT + 20, line - 4)), "curve", colour)]
        shapes += [Words(_LEFT + 30, line, name, "label"), Words(_LEFT + _WIDTH, line, said, "label", "end")]
    return shapes


def _said(training: Training) -> str:
    best = training.best
    which = "validation" if best["val_loss"] is not None else "training"
    return f"best {which} loss {_judged(best):.4f} at epoch {best['epoch']}; {len(training.epochs)} epochs"


def _judged(epoch: dict[str, Any]) -> float:
    return float(epoch["train_loss"] if epoch["val_loss"] is None else epoch["val_loss"])
