"""Train, sample, decode, relax and phonons through Slurm: the same nodes as without a scheduler."""

from __future__ import annotations

from typing import Any

import pytest
from slurm_computers import LOCAL, SSH, verdi

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

CPU = {"device": "cpu"}

#: Every step of the line, in order.
STEPS = ("train", "sample", "decode", "relax", "phonon")


@pytest.mark.parametrize("label", [LOCAL, SSH])
def test_the_computer_passes_verdis_own_test(daemon, computers, label):
    assert "all" in verdi(daemon, "computer", "test", label).lower()


@pytest.fixture(scope="module")
def line(daemon, codes, salts) -> dict[str, dict[str, Any]]:
    """The processes of the line, by computer and step; each step runs on all computers at once."""
    from aiida import orm
    from aiida.engine import submit
    from aiida_fixtures import wait_for
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.base import BY_VERB
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    crystals = CrystalSetData.get_or_create(salts)
    diamond = Structure(Lattice([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]), ["Si"] * 2, [[0, 0, 0], [0.25] * 3])
    silicon = CrystalSetData.get_or_create(CrystalSet.from_structures([diamond]))
    done: dict[str, dict[str, Any]] = {label: {} for label in codes}

    def step(name: str, make: Any) -> None:
        for label, code in codes.items():
            done[label][name] = make(label, {"code": code, "metadata": {"options": CPU}})
        wait_for([done[label][name] for label in codes], timeout=600)
        for label in codes:
            assert done[label][name].is_finished_ok, (label, name, done[label][name].exit_message)

    def verb(name: str, **inputs: Any) -> Any:
        return submit(BY_VERB[name], **{name: inputs})

    def output(label: str, name: str) -> Any:
        return next(n for n in _packed(done[label][name]).values())

    step("train", lambda label, job: submit(TrainGeneratorWorkChain.get_builder_from_protocol(
        job["code"], crystals, generator="mattergpt", preset="test", seed=1,
        spec={"training": {"epochs": 2}}, options={**CPU, "max_wallclock_seconds": 600},
    )))  # fmt: skip
    step("sample", lambda label, job: verb(
        "sample", generator=output(label, "train"), parameters=orm.Dict({"n": 16}), seed=orm.Int(3), **job,
    ))  # fmt: skip
    step("decode", lambda label, job: verb(
        "decode", sequences=output(label, "sample"), generator_name=orm.Str("mattergpt"),
        preset=orm.Str("test"), **job,
    ))  # fmt: skip
    short = {"max_steps": 2}
    step("relax", lambda label, job: verb(
        "relax", crystals=output(label, "decode"),
        parameters=orm.Dict({"relax": short, "selection": {"n": 4}}), **job,
    ))  # fmt: skip
    tight = {"fmax": 0.005, "max_steps": 200}
    step("relax silicon", lambda label, job: verb(
        "relax", crystals=silicon, parameters=orm.Dict({"relax": tight}), **job,
    ))  # fmt: skip
    settings = {"min_length": 7, "mesh_length": 20}
    step("phonon", lambda label, job: verb(
        "phonon", crystals=output(label, "relax silicon"), parameters=orm.Dict({"phonon": settings}), **job,
    ))  # fmt: skip
    return done


def _packed(process: Any) -> dict[str, Any]:
    """The packed outputs of a process, by label."""
    named = {label: process.outputs[label] for label in process.outputs}
    return {label: node for label, node in named.items() if hasattr(node, "content_hash")}


@pytest.mark.parametrize("step", STEPS)
def test_slurm_gives_the_same_nodes_as_no_scheduler(line, step):
    expected = {label: node.content_hash for label, node in _packed(line["localhost"][step]).items()}
    assert expected
    for label in (LOCAL, SSH):
        assert {key: node.content_hash for key, node in _packed(line[label][step]).items()} == expected, label


def test_something_came_out_of_it(line):
    end = line[SSH]
    assert end["decode"].outputs.crystals.n_rows == 16
    assert 1 <= end["relax"].outputs.crystals.n_ok <= 4
    assert end["phonon"].outputs.table.table.column("phonon_stable") == [True]


def test_every_job_was_one_of_slurms(line, cluster):
    for label in (LOCAL, SSH):
        jobs = [j for s in STEPS for j in line[label][s].called_descendants if hasattr(j, "get_job_id")]
        assert len(jobs) == len(STEPS) + 1  # training makes its training set first
        ids = {job.get_job_id() for job in jobs}
        assert len(ids) == len(jobs)
        logged = (cluster_log(cluster)).read_text()
        assert all(f"JobId={number} " in logged for number in ids)


def cluster_log(cluster):
    from pathlib import Path

    return Path(cluster.folder) / "slurm" / "slurmctld.log"
