"""A generator is four files that cannot run code, whole or refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from crysgen_aiida.crystals.errors import BadInput, CorruptWeights

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def folder(tmp_path):
    save_file({"w": np.zeros((3, 4), dtype=np.float32), "b": np.zeros(4, np.float32)}, tmp_path / "weights.safetensors")
    config = {"generator": "toy", "generator_version": "7", "conditions": ["band_gap"], "spec": {"a": 1}, "seed": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocabulary.json").write_text(json.dumps({"tokens": ["a"]}))
    (tmp_path / "history.jsonl").write_text('{"step": 1, "val_loss": 2.5}\n{"step": 2, "val_loss": 1.5}\n')
    return tmp_path


def test_attributes_files_and_query(folder, tmp_path):
    from aiida.orm import QueryBuilder

    from crysgen_aiida.data.generator import FILES, GeneratorData

    node = GeneratorData(folder).store()
    assert (node.generator, node.generator_version, node.n_parameters) == ("toy", "7", 16)
    assert (node.seed, node.val_loss, node.conditions, node.spec) == (5, 1.5, ["band_gap"], {"a": 1})
    assert [h["step"] for h in node.history()] == [1, 2]
    query = QueryBuilder().append(GeneratorData, filters=GeneratorData.fields.val_loss < 2.0)
    assert node.uuid in [n.uuid for n in query.all(flat=True)]
    node.write(tmp_path / "out")
    assert all((tmp_path / "out" / n).read_bytes() == (folder / n).read_bytes() for n in FILES)


def test_get_or_create_by_content_of_all_four_files(folder):
    from crysgen_aiida.data.generator import GeneratorData

    one = GeneratorData.get_or_create(folder)
    assert GeneratorData.get_or_create(folder).uuid == one.uuid
    (folder / "history.jsonl").write_text('{"step": 3, "val_loss": 1.0}\n')
    assert GeneratorData.get_or_create(folder).uuid != one.uuid


def test_pickles_unknown_and_missing_files_are_refused(folder):
    from crysgen_aiida.data.generator import GeneratorData

    (folder / "model.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(BadInput, match="can run code"):
        GeneratorData(folder)
    (folder / "model.pt").rename(folder / "notes.txt")
    with pytest.raises(BadInput, match=r"notes\.txt"):
        GeneratorData(folder)
    (folder / "notes.txt").unlink()
    (folder / "vocabulary.json").unlink()
    with pytest.raises(BadInput, match=r"lacks vocabulary\.json"):
        GeneratorData(folder)


@pytest.mark.parametrize("damage", ["truncated", "longer", "pickle", "empty"])
def test_corrupt_weights_are_refused(folder, damage):
    from crysgen_aiida.data.generator import GeneratorData

    path = folder / "weights.safetensors"
    held = path.read_bytes()
    new = {"truncated": held[:-3], "longer": held + b"x", "pickle": pickle.dumps({"w": [1.0] * 50}), "empty": b""}
    path.write_bytes(new[damage])
    with pytest.raises(CorruptWeights, match="copy or train it again"):
        GeneratorData(folder)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("config.json", "{", "not JSON"),
        ("config.json", "{}", "lacks generator"),
        ("config.json", "[]", "JSON object"),
        ("history.jsonl", '{"val_loss": 1.0, "elapsed": 3.0}', "clock times"),
    ],
)
def test_malformed_files_are_refused(folder, name, text, complaint):
    from crysgen_aiida.data.generator import GeneratorData

    (folder / name).write_text(text)
    with pytest.raises(BadInput, match=complaint):
        GeneratorData(folder)


def test_files_added_to_the_node_are_refused(folder):
    from aiida.common.exceptions import ValidationError

    from crysgen_aiida.data.generator import GeneratorData

    node = GeneratorData(folder)
    node.base.repository.put_object_from_bytes(pickle.dumps(1), "extra.pkl")
    with pytest.raises(ValidationError, match="can run code"):
        node.store()


def test_points_of_a_latent_space_are_no_parameters():
    from crysgen_aiida.data.generator import count_parameters

    points = {"model.weight": np.zeros((3, 2), np.float32), "latent.means": np.zeros((50, 4), np.float32)}
    assert count_parameters(save(points)) == 6
