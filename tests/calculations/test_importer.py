"""A folder run elsewhere comes into the graph once, checked, and marked for what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crysgen_aiida.crystals.errors import BadInput, BadJob

WORKER = Path(sys.executable).parent / "crysgen-worker"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, aiida_profile, sixth_generator, salts):
    """A worker folder in which a training set was prepared, without AiiDA."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "inputs").mkdir()
    salts.write(folder / "inputs" / "crystals.parquet")
    job = {
        "job_schema": 1,
        "worker_api": "1",
        "verb": "prepare",
        "inputs": {"crystals": "inputs/crystals.parquet"},
        "generator": {"name": "exchange", "spec": {"swaps": 3}, "preset": None},
        "parameters": {},
        "seed": 11,
        "resources": {"threads": 1, "device": "cpu"},
        "parent_folder": None,
    }
    (folder / "job.json").write_text(json.dumps(job))
    subprocess.run([WORKER, "prepare", "job.json"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def test_import_links_known_sets_and_is_idempotent(folder, salts):
    from crysgen_aiida.calculations.importer import EXTRA, import_run
    from crysgen_aiida.data.packed import CrystalSetData

    data = CrystalSetData.get_or_create(salts)
    node = import_run(folder)
    assert node.is_finished_ok
    assert node.is_imported
    assert node.base.extras.get(EXTRA)["job_hash"]
    assert node.computer.label == "crysgen-imported"
    assert node.inputs.crystals.uuid == data.uuid
    assert (node.inputs.seed.value, node.inputs.spec.get_dict()) == (11, {"swaps": 3})
    assert node.outputs.training_set.n_rows == len(salts)
    assert import_run(folder).uuid == node.uuid


def test_the_graph_keeps_no_path_of_the_folder(folder):
    from crysgen_aiida.calculations.importer import import_run

    node = import_run(folder)
    texts = [json.dumps(node.base.attributes.all, default=str), json.dumps(node.base.extras.all)]
    texts += [json.dumps(entry.node.base.attributes.all) for entry in node.base.links.get_incoming().all()]
    assert not any(str(folder.parent) in text for text in texts)
    assert node.inputs.remote_folder.is_cleaned


def test_the_importer_of_the_entry_point_makes_the_inputs(folder, localhost):
    from aiida.orm import RemoteData
    from aiida.plugins import CalcJobImporterFactory

    importer = CalcJobImporterFactory("crysgen.worker")
    inputs = importer.parse_remote_data(RemoteData(computer=localhost, remote_path=str(folder)))
    assert inputs["generator_name"].value == "exchange"
    assert set(inputs) >= {"crystals", "seed", "spec", "parameters", "worker_api"}


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "error", "complaint"),
    [
        (lambda f: (f / "result.json").unlink(), BadJob, "no result.json"),
        (lambda f: (f / "job.json").write_text("{"), BadJob, "not JSON"),
        (lambda f: edit(f / "job.json", seed=12), BadJob, "edited after the run"),
        (lambda f: edit(f / "job.json", verb="cook"), BadJob, "'cook'"),
        (lambda f: edit(f / "result.json", exit_code=320), BadJob, "Only finished runs"),
        (lambda f: edit(f / "result.json", worker_api="0"), BadJob, "worker_api '0'"),
        (lambda f: (f / "outputs" / "training_set.parquet").unlink(), BadInput, "is missing"),
    ],
)
def test_what_does_not_belong_together_is_refused(folder, damage, error, complaint):
    from crysgen_aiida.calculations.importer import import_run

    damage(folder)
    with pytest.raises(error, match=complaint):
        import_run(folder)


def test_another_input_or_output_than_the_workers_is_refused(folder, salts):
    from crysgen_aiida.calculations.importer import import_run
    from crysgen_aiida.crystals.table import SequenceSet

    path = folder / "outputs" / "training_set.parquet"
    held = SequenceSet.read(path)
    held.take([0, 1]).write(path)
    with pytest.raises(BadInput, match="not what its hash"):
        import_run(folder)
    held.write(path)
    salts.take([0]).write(folder / "inputs" / "crystals.parquet")
    with pytest.raises(BadInput, match="not the one the worker read"):
        import_run(folder)
