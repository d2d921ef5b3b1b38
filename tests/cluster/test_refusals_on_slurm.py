"""What Slurm refuses is said in a sentence, with what to do about it."""

from __future__ import annotations

import pytest
from slurm_computers import LOCAL, SSH, crysgen, jobs_of, until, verdi

pytestmark = [pytest.mark.slow, pytest.mark.daemon]


@pytest.fixture(scope="module")
def salts_node(daemon, salts):
    from aiida import orm

    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData.get_or_create(salts)
    assert isinstance(node, orm.Data)
    return node


@pytest.mark.parametrize("label", [LOCAL, SSH])
def test_gpus_where_slurm_has_none_are_refused_before_anything_is_submitted(daemon, codes, salts_node, label):
    from aiida import orm

    before = orm.QueryBuilder().append(orm.ProcessNode).count()
    said = crysgen(
        daemon, "generator", "train", str(salts_node.pk), "--preset", "test", "--gpus", "1",
        "--code", f"crysgen-worker@{label}", code=1,
    )  # fmt: skip
    assert f"Slurm on {label} has no GPUs" in said
    assert "leave out --gpus" in said
    assert "Traceback" not in said
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == before


def test_a_queue_that_takes_no_jobs_pauses_the_run_until_it_does(daemon, submit_toy, cluster, await_processes):
    down = cluster.run("scontrol", "update", f"PartitionName={cluster.partition}", "State=INACTIVE")
    assert down.returncode == 0, down.stderr
    try:
        chain = submit_toy(LOCAL, 5, {})
        until(lambda: jobs_of(chain) and jobs_of(chain)[0].paused, "AiiDA gives up for now", timeout=300)
        (job,) = jobs_of(chain)
        said = crysgen(daemon, "run", "status", str(chain.pk))
        assert f"Job {job.pk} is paused" in said
        assert "Required partition not available" in said
        assert f"verdi process play {job.pk}" in said
    finally:
        cluster.run("scontrol", "update", f"PartitionName={cluster.partition}", "State=UP")
    verdi(daemon, "process", "play", str(job.pk))
    await_processes([chain], timeout=300)
    assert chain.exit_status == 0, chain.exit_message
