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

from crysgen_aiida.cli.curves import COLOURS, curve_picture, make_training, ticks
from crysgen_aiida.cli.root import crysgen
from crysgen_aiida.cli.shapes import Curve, Disc, Words

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
    assert {colour for colour in COLOURS if colour in text} == set(COLOURS[:2])  # the same one twice is drawn once
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
        curve_picture([ours, theirs])
    with pytest.raises(click.ClickException, match="cannot be told apart"):
        curve_picture([ours] * (len(COLOURS) + 1))
    with pytest.raises(click.ClickException, match="names no epoch from epoch 5"):
        curve_picture([ours], first=5)
    with pytest.raises(click.ClickException, match="names no step"):
        curve_picture([make_training("x", "mattergpt", [{"epoch": 0, "val_loss": 1.0}])], by="step")


def _discs(picture: Any) -> list[Disc]:
    return [s for s in picture.shapes if isinstance(s, Disc) and s.title]


def test_a_training_without_held_out_strings_keeps_its_last_epoch() -> None:
    history = [{"epoch": i, "step": i, "train_loss": loss, "lr": 0.1} for i, loss in enumerate([2.0, 1.0, 1.5])]
    training = make_training("x", "mattergpt", history)
    assert (training.best["epoch"], training.best["train_loss"]) == (2, 1.5)
    (best,) = _discs(curve_picture([training]))
    assert "best training loss 1.5000" in best.title


def test_the_best_epoch_is_where_the_curve_is_lowest_and_hidden_with_it() -> None:
    training = make_training("x", "mattergpt", HISTORY)
    picture = curve_picture([training])
    (best,) = _discs(picture)
    (validation,) = [s for s in picture.shapes if isinstance(s, Curve) and s.kind == "curve" and len(s.points) == 5]
    assert (best.x, best.y) == validation.points[2]
    assert best.y == max(y for _, y in validation.points)
    assert _discs(curve_picture([training], first=3)) == []
    drawn = [s for s in curve_picture([training], first=3).shapes if isinstance(s, Curve) and s.stroke == COLOURS[0]]
    (later,) = [s for s in drawn if s.kind == "thin"]
    assert len(later.points) == 2
    assert later.points[0][0] < later.points[1][0]


@settings(deadline=None, max_examples=60)
@given(
    losses=st.lists(
        st.one_of(st.none(), st.just(math.nan), st.just("x"), st.floats(-1e6, 1e6)), min_size=1, max_size=30
    )
)
def test_any_history_is_drawn_inside_the_picture_or_refused(losses: list[Any]) -> None:
    history = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses)]
    numbers = [loss for loss in losses if isinstance(loss, float) and math.isfinite(loss)]
    if not numbers:
        with pytest.raises(click.ClickException, match="kept no loss"):
            make_training("x", "mattergpt", history)
        return
    training = make_training("x", "mattergpt", history)
    assert training.best["val_loss"] == min(numbers)
    picture = curve_picture([training])
    for shape in picture.shapes:
        points = shape.points if isinstance(shape, Curve) else [(getattr(shape, "x", 0), getattr(shape, "y", 0))]
        assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in points)


@given(low=st.floats(-1e5, 1e5), span=st.floats(1e-3, 1e5), whole=st.booleans())
def test_ticks_are_few_round_and_even(low: float, span: float, whole: bool) -> None:
    found = ticks(low, low + span, whole=whole)
    assert 1 <= len(found) <= 12
    assert found == sorted(set(found))
    if whole and len(found) > 1:
        assert all(value == round(value) and low <= value <= low + span for value in found)
    if not whole:
        assert found[0] <= low + 1e-6 * span
        assert found[-1] >= low + span * (1 - 1e-6)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1].repeat(len(steps)) if len(steps) else steps, rtol=1e-6, atol=1e-9)


def test_one_epoch_is_a_dot() -> None:
    picture = curve_picture([make_training("x", "mattergpt", HISTORY[:1])])
    assert not [s for s in picture.shapes if isinstance(s, Curve) and s.stroke == COLOURS[0] and len(s.points) > 2]
    assert len([s for s in picture.shapes if isinstance(s, Disc)]) == 4  # both losses, the best one, and its key
    assert "1" not in [s.text for s in picture.shapes if isinstance(s, Words) and s.anchor == "middle"]
