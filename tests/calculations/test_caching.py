"""An identical line is repeated from the graph, step by step; anything that changes a result is not."""

from __future__ import annotations

import json

import pytest

CPU = {"metadata": {"options": {"device": "cpu"}}}


def line(run_job, crystals, *, seed=1, swaps=1, worker_api="1"):
    """Prepare, train, sample, decode with the sixth generator; return the four jobs."""
    from crysgen_aiida.calculations.verbs import (
        DecodeCalculation,
        PrepareCalculation,
        SampleCalculation,
        TrainCalculation,
    )

    name, same = "substitution", {**CPU, "worker_api": worker_api}
    prepare = run_job(PrepareCalculation, crystals=crystals, generator_name=name, **same)
    train = run_job(
        TrainCalculation, training_set=prepare.outputs.training_set, generator_name=name, spec={"swaps": swaps}, **same
    )
    sample = run_job(
        SampleCalculation, generator=train.outputs.generator, parameters={"n": 4, "conditions": {}}, seed=seed, **same
    )
    decode = run_job(DecodeCalculation, sequences=sample.outputs.sequences, generator_name=name, **same)
    jobs = [prepare, train, sample, decode]
    assert [job.exit_status for job in jobs] == [0, 0, 0, 0], [job.exit_message for job in jobs]
    return jobs


def cached(jobs):
    return [job.base.caching.is_created_from_cache for job in jobs]


@pytest.mark.slow
def test_the_whole_line(run_job, sixth_generator, salts):
    from aiida.manage.caching import enable_caching

    from crysgen_aiida.data.packed import CrystalSetData

    crystals = CrystalSetData.get_or_create(salts.with_metadata(name="cached"))
    first = line(run_job, crystals)
    with enable_caching(identifier="aiida.calculations:crysgen.*"):
        # equal content is the same input, whichever node holds it
        again = line(run_job, CrystalSetData(salts.with_metadata(name="cached")).store())
        seed = line(run_job, crystals, seed=2)
        weights = line(run_job, crystals, swaps=2)
    assert cached(again) == [True] * 4
    assert cached(seed) == [True, True, False, False]
    # other weights are sampled anew; these happen to give equal strings, which need no second decoding
    assert cached(weights) == [True, False, False, True]
    hashes = [job.outputs.crystals.content_hash for job in (first[3], again[3], seed[3])]
    assert hashes[0] == hashes[1] != hashes[2]


def test_another_worker_is_not_served_old_results(run_job, sixth_generator, salts):
    """It answers for itself: the installed worker refuses a job written for another one."""
    from aiida.manage.caching import enable_caching

    from crysgen_aiida.calculations.verbs import PrepareCalculation
    from crysgen_aiida.data.packed import CrystalSetData

    inputs = {"crystals": CrystalSetData.get_or_create(salts), "generator_name": "substitution", **CPU}
    first = run_job(PrepareCalculation, **inputs)
    with enable_caching(identifier="aiida.calculations:crysgen.*"):
        other = run_job(PrepareCalculation, worker_api="2", **inputs)
        same = run_job(PrepareCalculation, **inputs)
    assert first.is_finished_ok
    assert same.base.caching.is_created_from_cache
    assert not other.base.caching.is_created_from_cache
    assert other.exit_status == 302
    assert "worker_api '2'" in other.exit_message


def test_no_output_holds_a_time_or_a_machine(run_job, sixth_generator, salts):
    """Two runs of the same job give nodes of the same hash."""
    from crysgen_aiida.calculations.verbs import PrepareCalculation, TrainCalculation
    from crysgen_aiida.data.packed import CrystalSetData

    crystals = CrystalSetData.get_or_create(salts)
    prepared = run_job(PrepareCalculation, crystals=crystals, generator_name="substitution", **CPU)
    pair = [
        run_job(
            TrainCalculation, training_set=prepared.outputs.training_set, generator_name="substitution", seed=5, **CPU
        ).outputs.generator
        for _ in range(2)
    ]
    assert pair[0].uuid != pair[1].uuid
    assert pair[0].content_hash == pair[1].content_hash
    assert pair[0].base.caching.compute_hash() == pair[1].base.caching.compute_hash()
    text = json.dumps(pair[0].base.attributes.all)
    assert not any(word in text for word in ("time", "host", "/tmp", "/home"))
