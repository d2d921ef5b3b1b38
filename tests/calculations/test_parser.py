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

    def run(result=None, outputs=None, journal="", log=""):
        node = orm.CalcJobNode(computer=localhost, process_type="aiida.calculations:crysgen.relax")
        node.store()
        retrieved = orm.FolderData()
        for name, text in (("result.json", result), ("journal.jsonl", journal), ("crysgen.log", log)):
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
