"""Each remedy changes the inputs of the next run as it says, and gives up with a sentence when it cannot help."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def chain(localhost, worker_code, salts):
    """A restart chain of a relaxation whose first job ended with the given code; nothing is run."""
    from aiida import orm
    from aiida.common.links import LinkType
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager
    from plumpy.process_states import ProcessState

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.base import RelaxBaseWorkChain

    def make(*statuses, files=("progress.jsonl",), done=None, cleaned=False, options=None, **inputs):
        job = {"crystals": CrystalSetData.get_or_create(salts), "code": worker_code}
        job["metadata"] = {"options": options or {}}
        runner = get_manager().create_runner(communicator=None)
        process = instantiate_process(runner, RelaxBaseWorkChain, relax=job, **inputs)
        process.setup()
        process.ctx.children = []
        for status in statuses:
            node = orm.CalcJobNode(computer=localhost, process_type="aiida.calculations:crysgen.relax").store()
            remote = orm.RemoteData(computer=localhost, remote_path=f"/scratch/{node.pk}")
            remote.base.links.add_incoming(node, LinkType.CREATE, "remote_folder")
            remote.store()
            if cleaned:
                remote.base.extras.set(remote.KEY_EXTRA_CLEANED, True)
            retrieved = orm.FolderData()
            for name in files:
                text = (
                    "{}\n" if done is None else f'{{"stage": "relax", "done": {done[process.ctx.iteration]}}}\n{{"sta'
                )
                retrieved.base.repository.put_object_from_bytes(text.encode(), name)
            retrieved.base.links.add_incoming(node, LinkType.CREATE, "retrieved")
            retrieved.store()
            node.set_process_state(ProcessState.FINISHED)
            node.set_exit_status(status)
            node.set_exit_message("The job's own sentence.")
            process.ctx.children.append(node)
            process.ctx.iteration += 1
            process.result_of_inspection = process.inspect_process()
        return process

    return make


@pytest.mark.parametrize("status", [320, 120])
def test_walltime_goes_on_from_the_finished_parts(chain, status):
    process = chain(status)
    assert process.result_of_inspection.status == 0
    assert process.ctx.inputs.parent_folder.uuid == process.ctx.children[0].outputs.remote_folder.uuid
    assert not process.ctx.is_finished


@pytest.mark.parametrize("status", [320, 120])
def test_a_limit_too_short_for_anything_is_not_tried_for_ever(chain, status):
    result = chain(status, status, status, status, done=(2, 2, 2, 2)).result_of_inspection
    assert result.status == status
    assert "3 times without anything finished" in result.message
    assert "give the job more wall time" in result.message


def test_a_limit_that_each_time_leaves_time_for_something_is_tried_often(chain):
    process = chain(*[320] * 12, done=tuple(range(1, 13)))
    assert process.result_of_inspection.status == 0
    assert process.inputs.max_iterations.value == 100


@pytest.mark.parametrize("status", [321, 110])
def test_memory_halves_the_batches_each_time_and_keeps_the_parts(chain, status):
    process = chain(status, status)
    assert process.ctx.inputs.metadata.options.batch_scale == 0.25
    assert process.ctx.inputs.parent_folder.uuid == process.ctx.children[1].outputs.remote_folder.uuid


def test_memory_that_smaller_batches_cannot_save_ends_with_a_sentence(chain):
    process = chain(321, options={"batch_scale": 1.0 / 64.0})
    assert process.result_of_inspection.status == 321
    assert "give the job more memory" in process.result_of_inspection.message


@pytest.mark.parametrize("status", [300, 140])
def test_a_killed_worker_goes_on(chain, status):
    process = chain(status)
    assert process.result_of_inspection.status == 0
    assert "parent_folder" in process.ctx.inputs


def test_a_worker_that_never_starts_is_not_started_for_ever(chain):
    process = chain(300, 300, 300, files=())
    assert process.result_of_inspection.status == 300
    assert "no sign of life 3 times" in process.result_of_inspection.message


def test_a_cleaned_folder_means_starting_over_and_says_so(chain, caplog):
    process = chain(320, cleaned=True)
    assert process.result_of_inspection.status == 0
    assert "parent_folder" not in process.ctx.inputs
    from aiida.orm import Log

    # whether reports also go to the database depends on how the process that runs the chain has set up its logs
    reports = [log.message for log in Log.collection.get_logs_for(process.node)] + caplog.messages
    assert any("was cleaned, so the work starts over" in text for text in reports)


def test_a_full_disk_needs_a_person(chain):
    process = chain(322)
    assert process.result_of_inspection.status == 322
    assert "free space, run again" in process.result_of_inspection.message


@pytest.mark.parametrize("status", [301, 302, 310, 311, 312, 313, 314, 315, 330, 340])
def test_what_has_no_remedy_ends_with_the_jobs_own_code_and_sentence(chain, status):
    result = chain(status).result_of_inspection
    assert (result.status, result.message) == (status, "The job's own sentence.")


def test_a_person_may_ask_to_look_first(chain):
    from aiida.orm import Str

    process = chain(340, on_unhandled_failure=Str("restart_once"))
    assert process.result_of_inspection is None
    assert process.ctx.unhandled_failure


def test_success_ends_the_chain(chain):
    process = chain(0)
    assert process.result_of_inspection is None
    assert process.ctx.is_finished


def test_a_step_repeated_after_a_kill_takes_the_child_it_has_submitted(chain, localhost):
    """The daemon may die between submitting a child and saving the work chain: the step is then done again."""
    from aiida import orm
    from aiida.common.links import LinkType

    from crysgen_aiida.calculations.verbs import RelaxCalculation

    process = chain()
    inputs = {**process.ctx.inputs, "metadata": {"call_link_label": "iteration_01"}}
    before = orm.CalcJobNode(computer=localhost, process_type="aiida.calculations:crysgen.relax")
    before.base.links.add_incoming(process.node, LinkType.CALL_CALC, "iteration_01")
    before.store()
    assert process.submit(RelaxCalculation, **inputs).uuid == before.uuid
    process.ctx.children = [before]  # known: the label is used again after the iterations were counted anew
    assert process._submitted_before("iteration_01") is None
    process.ctx.children = []
    before.set_process_state("excepted")
    assert process._submitted_before("iteration_01") is None
    assert process._submitted_before("iteration_02") is None


def test_chains_change_nothing_they_were_not_told_to(chain):
    """The inputs of the second run are those of the first, but for the remedy."""
    first, second = chain(), chain(320)
    before, after = first.ctx.inputs, second.ctx.inputs
    assert set(after) - set(before) == {"parent_folder"}
    assert after.metadata.options == before.metadata.options
    assert after.parameters.get_dict() == before.parameters.get_dict()
