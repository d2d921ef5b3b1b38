"""An identical line is repeated from the graph, step by step; anything that changes a result is not."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def line(aiida_profile, sixth_generator, salts):
    """Prepare, train, sample, decode with the sixth generator, from the cache or not; the four jobs by verb."""
    from aiida.engine import run_get_node
    from aiida.manage.caching import enable_caching
    from aiida_fixtures import make_code, make_computer

    from crysgen_aiida.calculations.verbs import BY_VERB
    from crysgen_aiida.data.packed import CrystalSetData

    code = make_code(make_computer("localhost", "core.direct"))
    data = salts.with_metadata(name="cached")

    def go(verb, label="", **inputs):
        return run_get_node(BY_VERB[verb], code=code, metadata={"options": CPU, "label": label}, **inputs)[1]

    def run(*, cache=True, seed=1, swaps=1, last="decode", **train):
        # equal content is the same input, whichever node holds it
        name, jobs = "exchange", {}
        with enable_caching(identifier="aiida.calculations:crysgen.*") if cache else nullcontext():
            jobs["prepare"] = go("prepare", crystals=CrystalSetData(data).store(), generator_name=name)
            training = {"training_set": jobs["prepare"].outputs.training_set, "generator_name": name}
            jobs["train"] = go("train", **training, spec={"swaps": swaps}, **train)
            if last != "train":
                jobs["sample"] = go(
                    "sample",
                    generator=jobs["train"].outputs.generator,
                    parameters={"n": 4, "conditions": {}},
                    seed=seed,
                )
                jobs["decode"] = go("decode", sequences=jobs["sample"].outputs.sequences, generator_name=name)
        return jobs

    run.go = go
    run.first = run(cache=False)
    return run


def cached(jobs):
    return [job.base.caching.is_created_from_cache for job in jobs.values()]


@pytest.mark.slow
def test_an_identical_line_is_cached_through_the_whole_chain(line):
    assert [job.exit_status for job in line.first.values()] == [0] * 4
    again = line()
    assert cached(again) == [True] * 4
    assert again["decode"].outputs.crystals.content_hash == line.first["decode"].outputs.crystals.content_hash


def test_another_seed_is_not(line):
    other = line(seed=2)
    assert cached(other) == [True, True, False, False]
    assert other["decode"].outputs.crystals.content_hash != line.first["decode"].outputs.crystals.content_hash


def test_other_weights_are_not(line):
    other = line(swaps=2)
    assert other["train"].outputs.generator.content_hash != line.first["train"].outputs.generator.content_hash
    # sampled anew; the strings happen to be equal, and equal strings need no second decoding
    assert cached(other) == [True, False, False, True]


def test_another_worker_is_not_served_old_results(line):
    """The installed worker answers for itself: it refuses a job written for another one."""
    from aiida.manage.caching import enable_caching

    inputs = {"crystals": line.first["prepare"].inputs.crystals, "generator_name": "exchange"}
    with enable_caching(identifier="aiida.calculations:crysgen.*"):
        same = line.go("prepare", **inputs)
        other = line.go("prepare", worker_api="2", **inputs)
    assert same.base.caching.is_created_from_cache
    assert not other.base.caching.is_created_from_cache
    assert other.exit_status == 302
    assert "worker_api '2'" in other.exit_message


def test_no_output_holds_a_time_or_a_machine(line):
    """Two runs of the same job give nodes of the same hash."""
    first = line.first["train"].outputs.generator
    second = line.go(
        "train", training_set=line.first["train"].inputs.training_set, generator_name="exchange", spec={"swaps": 1}
    ).outputs.generator
    assert first.uuid != second.uuid
    assert first.content_hash == second.content_hash
    assert first.base.caching.compute_hash() == second.base.caching.compute_hash()
    text = json.dumps(first.base.attributes.all)
    assert not any(word in text for word in ("time", "host", "/tmp", "/home"))


@pytest.mark.slow
def test_a_job_that_is_called_something_calls_what_it_makes_so(line):
    crystals = line.first["prepare"].inputs.crystals
    job = line.go("prepare", label="mine", crystals=crystals, generator_name="exchange")
    assert job.outputs.training_set.label == "mine"
    assert line.first["prepare"].outputs.training_set.label == ""
