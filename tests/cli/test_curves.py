"""Learning curves: what the history says, of one generator and of several, and of those that have none."""

from __future__ import annotations

import csv
import io
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.cli.curves import COLOURS, curve_figure, make_training
from crysgen_aiida.cli.root import crysgen

HISTORY = [
    {"epoch": i, "step": 10 * (i + 1), "train_loss": 3.0 / (i + 1), "val_loss": loss, "lr": 1e-3 / (i + 1)}
    for i, loss in enumerate([2.0, 1.5, 1.25, 1.3, 1.25])
]


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "generator", *map(str, arguments)])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    return run


def checkpoint(folder: Path, history: list[dict[str, Any]], generator: str = "mattergpt") -> Path:
    """Write the four files of a small generator."""
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({"counts": np.arange(len(history) + 2, dtype=np.float32)}, folder / "weights.safetensors")
    config = {"generator": generator, "generator_version": "1", "conditions": [], "spec": {}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("{}")
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    return folder


def test_the_table_is_the_history_with_the_best_epoch_marked(invoke: Any, tmp_path: Path) -> None:
    invoke("import", checkpoint(tmp_path / "one", HISTORY), "--label", "curved")
    rows = json.loads(invoke("curve", "curved", "--format", "json").stdout)
    assert [{k: row[k] for k in HISTORY[0]} for row in rows] == HISTORY
    assert [row["best"] for row in rows] == [False, False, True, False, False]  # the first of equals
    (first, *_) = csv.DictReader(io.StringIO(invoke("curve", "curved", "--format", "csv").stdout))
    assert list(first) == ["generator", "epoch", "step", "train_loss", "val_loss", "lr", "best"]
    assert "curved" in invoke("curve", "curved").stdout


def test_two_generators_in_one_picture_from_the_graph_and_from_a_folder(invoke: Any, tmp_path: Path) -> None:
    invoke("import", checkpoint(tmp_path / "one", HISTORY), "--label", "<b>&\"'first\x1b")
    folder = checkpoint(tmp_path / "two", [{**HISTORY[0], "epoch": i, "val_loss": 3.0 - i} for i in range(3)])
    path = tmp_path / "curves.svg"
    done = invoke("curve", "<b>&\"'first\x1b", folder, folder, "--output", path)
    assert done.stdout == ""  # the picture is the answer
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    said = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "loss [nats/token]" in said
    assert any(line.startswith("<b>&\"'first�") for line in said)
    assert any("best validation loss 1.2500 at epoch 2; 5 epochs" in line for line in said)
    assert any("best validation loss 1.0000 at epoch 2; 3 epochs" in line for line in said)
    assert {colour for colour in COLOURS[:-1] if colour in text} == set(COLOURS[:2])  # the same one twice is drawn once
    assert "exists already" in invoke("curve", folder, "--output", path, code=1).output
    again = tmp_path / "again.svg"
    rows = invoke("curve", "<b>&\"'first\x1b", folder, "--output", again, "--format", "csv").stdout.splitlines()
    assert len(rows) == 1 + 5 + 3
    assert again.read_bytes() == path.read_bytes()


def test_a_folder_needs_no_profile(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "bare", HISTORY)
    done = CliRunner().invoke(crysgen, ["-p", "no-such-profile", "generator", "curve", str(folder), "--format", "json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)) == 5
    (folder / "config.json").write_text("[]")
    done = CliRunner().invoke(crysgen, ["generator", "curve", str(folder)])
    assert "names its generator" in done.output
    (folder / "config.json").write_text('{"generator": "mattergpt"}')
    (folder / "history.jsonl").write_text('{"epoch": 0, "val_loss": 1.0}\nnot json\n')
    assert "history.jsonl line 2" in CliRunner().invoke(crysgen, ["generator", "curve", str(folder)]).output


def test_a_generator_without_losses_says_so_and_nothing_is_written(invoke: Any, tmp_path: Path) -> None:
    invoke("import", checkpoint(tmp_path / "s", [{"prototypes": 12}], "substitution"), "--label", "exchanger")
    path = tmp_path / "curve.svg"
    said = invoke("curve", "exchanger", "--output", path, code=1).output
    assert "exchanger" in said
    assert "has no learning curve: substitution kept no loss" in said
    assert not path.exists()
    assert "no generator" in invoke("curve", "nobody knows it", code=1).output


def test_pictures_that_would_mislead_are_refused() -> None:
    ours = make_training("ours", "mattergpt", HISTORY)
    theirs = make_training("theirs", "unheard-of", HISTORY)
    assert theirs.unit == ""
    with pytest.raises(click.ClickException, match="other units"):
        curve_figure([ours, theirs])
    with pytest.raises(click.ClickException, match="cannot be told apart"):
        curve_figure([ours] * (len(COLOURS) + 1))
    with pytest.raises(click.ClickException, match="names no epoch from epoch 5"):
        curve_figure([ours], first=5)
    with pytest.raises(click.ClickException, match="names no step"):
        curve_figure([make_training("x", "mattergpt", [{"epoch": 0, "val_loss": 1.0}])], by="step")


def drawn(figure: Any, style: str) -> list[list[tuple[float, float]]]:
    """Return the points of each curve of a figure: ``-`` is validation, ``--`` training, ``None`` the best epoch."""
    lines = figure.axes[0].get_lines()
    return [list(zip(*line.get_data(), strict=True)) for line in lines if line.get_linestyle() == style]


def key(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_training_without_held_out_strings_keeps_its_last_epoch() -> None:
    history = [{"epoch": i, "step": i, "train_loss": loss, "lr": 0.1} for i, loss in enumerate([2.0, 1.0, 1.5])]
    training = make_training("x", "mattergpt", history)
    assert (training.best["epoch"], training.best["train_loss"]) == (2, 1.5)
    figure = curve_figure([training])
    assert drawn(figure, "None") == [[(2, 1.5)]]
    assert drawn(figure, "-") == []
    assert "x: best training loss 1.5000 at epoch 2; 3 epochs" in key(figure)


def test_the_best_epoch_is_where_the_curve_is_lowest_and_hidden_with_it() -> None:
    training = make_training("x", "mattergpt", HISTORY)
    figure = curve_figure([training])
    assert drawn(figure, "-") == [[(line["epoch"], line["val_loss"]) for line in HISTORY]]
    assert drawn(figure, "--") == [[(line["epoch"], line["train_loss"]) for line in HISTORY]]
    assert drawn(figure, "None") == [[(2, 1.25)]]
    assert drawn(curve_figure([training], by="step"), "None") == [[(30, 1.25)]]
    later = curve_figure([training], first=3)
    assert drawn(later, "None") == []
    assert drawn(later, "--") == [[(3, 0.75), (4, 0.6)]]


def test_a_name_is_text_however_it_begins_and_ends() -> None:
    names = ["_hidden", "$x^{", "/a/long/path" * 9, "<b>"]
    found = key(curve_figure([make_training(name, "mattergpt", HISTORY) for name in names]))[3:]
    assert [line.partition(": best")[0] for line in found] == ["_hidden", "$x^{", "…" + names[2][-47:], "<b>"]


@settings(deadline=None, max_examples=20)
@given(
    losses=st.lists(
        st.one_of(st.none(), st.just(math.nan), st.just("x"), st.floats(-3e38, 3e38), st.just(1e300)),
        min_size=1,
        max_size=30,
    )
)
def test_any_history_is_drawn_inside_the_picture_or_refused(losses: list[Any]) -> None:
    history = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses)]
    numbers = [loss for loss in losses if isinstance(loss, float) and abs(loss) < 1e39]
    if not numbers:
        with pytest.raises(click.ClickException, match="kept no loss"):
            make_training("x", "mattergpt", history)
        return
    training = make_training("x", "mattergpt", history)
    assert training.best["val_loss"] == min(numbers)
    figure = curve_figure([training])
    figure.canvas.draw()
    (low, high), (left, right) = figure.axes[0].get_ylim(), figure.axes[0].get_xlim()
    points = [point for line in drawn(figure, "-") for point in line]
    assert len(points) == len(numbers)
    assert all(left <= x <= right and low <= y <= high for x, y in points)


def test_one_epoch_is_a_dot_at_a_whole_number() -> None:
    figure = curve_figure([make_training("x", "mattergpt", HISTORY[:1])])
    markers = [line.get_marker() for line in figure.axes[0].get_lines()]
    assert markers == [".", ".", "o"]  # both losses and the best one
    assert all(tick == round(tick) for tick in figure.axes[0].get_xticks())
