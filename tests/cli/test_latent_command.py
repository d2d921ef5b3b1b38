"""``crysgen generator latent``: a table of dimensions and a picture of the training rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from crysgen_aiida.cli.root import crysgen
from crysgen_aiida.crystals.table import SequenceSet

CONFIG = {"generator": "ftcp", "generator_version": "1", "conditions": [], "spec": {}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with the latent space of a model that has learned one property in dimension 2, another nowhere."""
    rng = np.random.default_rng(2)
    means = rng.standard_normal((80, 4)).astype(np.float32)
    energies = 5 * means[:, 2] + 0.1 * means[:, 0]
    labels = np.array(list(zip(energies, rng.standard_normal(80), strict=True)), dtype=np.float64)
    labels[:7, 0] = np.nan
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {"means": means, "labels": labels, "predicted": labels * 2, "held_out": np.zeros(80, np.uint8)}
    save_file(
        {f"latent.{name}": np.ascontiguousarray(a) for name, a in tensors.items()}, folder / "weights.safetensors"
    )
    names = ["formation_energy_per_atom", "band_gap"]
    (folder / "config.json").write_text(json.dumps({**CONFIG, "condition_order": names}))
    (folder / "vocabulary.json").write_text("{}")
    (folder / "history.jsonl").write_text("")
    return folder


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(crysgen, ["generator", "latent", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def test_dimensions_come_by_how_much_the_property_changes(checkpoint):
    rows = json.loads(run(checkpoint, "--format", "json"))
    assert [rows[0]["dimension"], rows[1]["dimension"]] == [2, 0]
    assert rows[0]["points"] == 73
    assert rows[0]["change"] == pytest.approx(1, abs=0.05)


def test_dimensions_that_the_decoder_cannot_tell_come_last(checkpoint):
    held = load_file(checkpoint / "weights.safetensors")
    logarithms = np.full((80, 4), -8.0, dtype=np.float16)
    logarithms[:, 2] = 0.5  # wider than the points lie apart
    save_file({**held, "latent.log_variances": logarithms}, checkpoint / "weights.safetensors")
    rows = json.loads(run(checkpoint, "--format", "json"))
    assert [row["dimension"] for row in rows][::3] == [0, 2]
    assert rows[3]["change"] == pytest.approx(1, abs=0.05)
    assert rows[3]["width"] == pytest.approx(np.exp(0.25), rel=1e-3)
    assert rows[3]["width"] > rows[3]["spread"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_is_drawn(checkpoint, tmp_path, ending):
    picture = tmp_path / f"latent.{ending}"
    run(checkpoint, "--output", picture)
    assert picture.stat().st_size > 5000
    if ending == "svg":
        text = picture.read_text()
        assert str(checkpoint.parent) not in text
        assert "dimension 2" in text
        assert "formation_energy_per_atom (label) [eV/atom]" in text
    assert "exists already" in run(checkpoint, "--output", picture, code=1)


def designs_file(tmp_path: Path, dimensions: int) -> Path:
    """A file of three designs, one of which failed."""
    points = [[1.0] * dimensions, None, [2.0] * dimensions]
    status = ["ok", "failed", "ok"]
    table = pa.table({"latent": pa.array(points, type=pa.list_(pa.float32())), "status": status})
    path = tmp_path / f"designs{dimensions}.parquet"
    SequenceSet(table.append_column("reason", pa.array([None, "no", None], type=pa.string()))).write(path)
    return path


def test_designs_are_marked(checkpoint, tmp_path):
    picture = tmp_path / "latent.svg"
    run(checkpoint, "--output", picture, "--designs", designs_file(tmp_path, 4))
    assert "2 designs" in picture.read_text()
    other = designs_file(tmp_path, 5)
    said = run(checkpoint, "--output", tmp_path / "other.svg", "--designs", other, code=1)
    assert "have 5 dimensions; the latent space has 4" in said
    assert "--output" in run(checkpoint, "--designs", other, code=1)


def test_what_was_not_learned_is_refused(checkpoint):
    assert "not piezo_max" in run(checkpoint, "--property", "piezo_max", code=1)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_damaged_checkpoint_is_a_sentence(checkpoint, name):
    (checkpoint / name).write_bytes(b"{")
    said = run(checkpoint, code=1)
    assert name in said
    assert "Traceback" not in said


def test_a_checkpoint_that_lacks_a_file_is_a_sentence(checkpoint):
    (checkpoint / "config.json").unlink()
    assert "config.json" in run(checkpoint, code=1)
