"""The parser attaches every whole output, whatever happened, and then tells what happened."""

from __future__ import annotations

import json
import logging

import pytest

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def parse(tmp_path, localhost, salts):
    """Parse what a worker left of a relaxation: any of result, outputs, journal, log."""
    from aiida import orm
    from aiida.common.links import LinkType

    from crysgen_aiida.calculations.parser import WorkerParser

    def run(result=None, outputs=None, journal="", log="", stderr="", scheduler=None):
        node = orm.CalcJobNode(computer=localhost, process_type="aiida.calculations:crysgen.relax")
        node.set_option("scheduler_stderr", "_scheduler-stderr.txt")
        node.store()
        if scheduler is not None:
            node.set_exit_status(scheduler)
        retrieved = orm.FolderData()
        left = {"result.json": result, "journal.jsonl": journal, "crysgen.log": log, "_scheduler-stderr.txt": stderr}
        for name, text in left.items():
            if text:
                text = text if isinstance(text, str) else json.dumps(text)
                retrieved.base.repository.put_object_from_bytes(text.encode(), name)
        retrieved.base.links.add_incoming(node, LinkType.CREATE, "retrieved")
        retrieved.store()
        (tmp_path / "outputs").mkdir(exist_ok=True)
        for name, content in (outputs or {}).items():
            content.write(tmp_path / "outputs" / name) if hasattr(content, "write") else (
                tmp_path / "outputs" / name
            ).write_bytes(content)
        parser = WorkerParser(node)
        run.node = node
        return parser.parse(retrieved_temporary_folder=str(tmp_path)), parser.outputs

    return run


def result(salts, **changes):
    entry = {"path": "outputs/crystals.parquet", "content_hash": salts.content_hash, "rows": len(salts)}
    return {"exit_code": 0, "message": "done", "outputs": {"crystals": entry}, "warnings": [], **changes}


def test_a_finished_run(parse, salts):
    code, outputs = parse(result(salts), {"crystals.parquet": salts})
    assert code is None
    assert outputs["crystals"].content_hash == salts.content_hash


def test_a_killed_run_keeps_what_is_whole_and_says_how_far_it_came(parse, salts):
    code, outputs = parse(None, {"crystals.parquet": salts}, journal='{"stage": "relax"}\n' * 3, log="a\nlast words\n")
    assert code.status == 300
    assert "after 3 units" in code.message
    assert "last words" in code.message
    assert "crystals" in outputs


def test_a_run_that_never_started_points_at_the_code(parse):
    code, outputs = parse(None, log="bash: crysgen-worker: command not found")
    assert code.status == 300
    assert "check the code's path" in code.message
    assert "crystals" not in outputs


#: What Slurm 22.05 writes, the job's own complaints before it.
TIME_LIMIT = (
    "Terminated\nslurmstepd-vm: error: *** JOB 7 ON vm CANCELLED AT 2026-11-26T00:11:33 DUE TO TIME LIMIT ***\n"
)
OVER_MEMORY = (
    "x\nslurmstepd-vm: error: StepId=6.batch exceeded memory limit (331558912 > 314572800), being killed\n"
    "slurmstepd-vm: error: *** JOB 6 ON vm CANCELLED AT 2026-11-26T00:10:44 ***\n"
)
OOM_KILL = (
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=9.batch. Some of your processes may have been killed."
)
NODE = (
    "slurmstepd: error: *** JOB 8 ON n1 CANCELLED AT 2026-11-26T00:10:44 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***\n"
)
CANCELLED = "slurmstepd-vm: error: *** JOB 3 ON vm CANCELLED AT 2026-11-26T00:10:20 ***\n"


@pytest.mark.parametrize(
    ("stderr", "status"),
    [(TIME_LIMIT, 120), (OVER_MEMORY, 110), (OOM_KILL, 110), (NODE, 140), (CANCELLED, 300), ("due to time limit", 300)],
)
def test_what_slurm_says_it_did_decides_without_a_result(parse, stderr, status):
    code, _ = parse(None, journal='{"stage": "relax"}\n', stderr=stderr)
    assert code.status == status
    assert "after 1 units" in code.message
    assert code.invalidates_cache


@pytest.mark.parametrize("status", [110, 120, 140])
def test_what_aiida_found_out_about_the_scheduler_decides_without_a_result(parse, status):
    code, _ = parse(None, scheduler=status)
    assert code.status == status


def test_a_worker_told_to_stop_because_of_its_memory_ran_out_of_memory(parse, salts):
    stopped = result(salts, exit_code=320, message="Stopped by the signal SIGTERM.", outputs={})
    assert parse(stopped, stderr=OVER_MEMORY)[0].status == 110
    assert parse(stopped, stderr=TIME_LIMIT)[0].status == 320
    assert parse(result(salts, exit_code=322, message="full", outputs={}), stderr=OVER_MEMORY)[0].status == 322


@pytest.mark.parametrize("status", [310, 320, 321, 322, 340])
def test_the_workers_own_code_and_sentence_come_through(parse, salts, status):
    code, outputs = parse(result(salts, exit_code=status, message="Why, and what to do."), {"crystals.parquet": salts})
    assert (code.status, code.message, code.invalidates_cache) == (status, "Why, and what to do.", True)
    assert "crystals" in outputs


@pytest.mark.parametrize("text", ["{", "[]", '{"exit_code": "x"}', '{"message": "no code"}'])
def test_a_malformed_result(parse, text):
    code, _ = parse(text)
    assert code.status == 301
    assert "malformed" in code.message


def test_an_undocumented_code_is_said_to_be_one(parse, salts):
    code, _ = parse(result(salts, exit_code=999, message="?"), {"crystals.parquet": salts})
    assert code.status == 301
    assert "999" in code.message


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({}, "crystals is missing"),
        ({"crystals.parquet": b"PAR1 garbage"}, "truncated or corrupt"),
        ({"crystals.parquet": "other"}, "another content hash"),
    ],
)
def test_a_promised_output_that_is_not_there(parse, salts, outputs, complaint):
    given = {k: salts.take([0]) if v == "other" else v for k, v in outputs.items()}
    code, attached = parse(result(salts), given)
    assert code.status == 301
    assert complaint in code.message
    assert "crystals" not in attached


def test_warnings_reach_the_report_of_the_job(parse, salts, caplog):
    with caplog.at_level(logging.WARNING):
        parse(result(salts, warnings=["mind the gap"]), {"crystals.parquet": salts})
    assert "mind the gap" in caplog.text


def test_rows_stopped_by_the_clock_make_a_job_no_cache_source(parse, salts, caplog):
    import pyarrow as pa

    n = len(salts)
    fields = {pa.field("status", pa.string()): ["timeout"] * 2 + ["ok"] * (n - 2)}
    stopped = salts.with_columns({pa.field("reason", pa.string()): ["time was up"] * 2 + [None] * (n - 2), **fields})
    for held, valid in ((salts, True), (stopped, False)):
        entry = {"crystals": {"path": "outputs/crystals.parquet", "content_hash": held.content_hash}}
        with caplog.at_level(logging.WARNING):
            code, outputs = parse(result(salts, outputs=entry), {"crystals.parquet": held})
        assert code is None
        assert "crystals" in outputs
        assert parse.node.base.extras.get("_aiida_valid_cache", True) is valid
    assert "2 rows of crystals were stopped by the clock" in caplog.text
