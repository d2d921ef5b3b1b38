"""Generators and runs on the command line: in, out, and what is wrong with what is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crysgen_aiida.cli.generator import sparkline
from crysgen_aiida.cli.root import crysgen


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(crysgen, ["-p", aiida_profile.name, *map(str, arguments)])

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The four files of a small generator."""
    import numpy as np
    from safetensors.numpy import save_file

    made = tmp_path / "generator"
    made.mkdir()
    save_file({"counts": np.arange(9, dtype=np.float32)}, made / "weights.safetensors")
    config = {"generator": "mattergpt", "generator_version": "1", "conditions": ["band_gap"], "seed": 4, "spec": {}}
    (made / "config.json").write_text(json.dumps(config))
    (made / "vocabulary.json").write_text("{}")
    lines = [{"epoch": i, "val_loss": 3.0 / (i + 1)} for i in range(5)]
    (made / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def test_a_generator_goes_in_is_shown_and_comes_out_the_same(invoke: Any, folder: Path, tmp_path: Path) -> None:
    made = json.loads(invoke("generator", "import", folder, "--label", "small one", "--format", "json").stdout)
    assert (made["parameters"], made["conditions"], made["trained here"]) == (9, ["band_gap"], False)
    again = json.loads(invoke("generator", "import", folder, "--format", "json").stdout)
    assert again["uuid"] == made["uuid"]
    shown = json.loads(invoke("generator", "show", "small one", "--format", "json").stdout)
    assert [h["val_loss"] for h in shown["history"]] == [3.0, 1.5, 1.0, 0.75, 0.6]
    assert "█" in invoke("generator", "show", "small one").output
    assert made["uuid"] in [g["uuid"] for g in json.loads(invoke("generator", "list", "--format", "json").stdout)]
    out = tmp_path / "out"
    assert invoke("generator", "export", "small one", out).exit_code == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert "overwrite" in invoke("generator", "export", "small one", out).output


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("weights.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "not a whole safetensors file"),
        ("weights.safetensors", b"", "too few"),
        ("config.json", b"{", "not JSON"),
        ("model.pkl", b"\x80\x04.", "pickled weights can run code"),
    ],
)
def test_broken_generators_are_refused(invoke: Any, folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    done = invoke("generator", "import", folder)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_settings_and_systems_that_do_not_exist_are_refused_before_anything_runs(invoke: Any, salts: Any) -> None:
    from crysgen_aiida.data.packed import CrystalSetData

    pk = CrystalSetData.get_or_create(salts).pk
    assert "did you mean layers" in invoke("generator", "train", pk, "--set", "model.layrs=2").output
    assert "Did you mean mattergpt" in invoke("generator", "train", pk, "--generator", "matergpt").output
    assert "has no preset 'huge'" in invoke("generator", "train", pk, "--preset", "huge").output


def test_designs_that_cannot_be_are_refused_before_anything_runs(
    invoke: Any, folder: Path, salt_reference: Any
) -> None:
    uuid = json.loads(invoke("generator", "import", folder, "--format", "json").stdout)["uuid"]
    base = ("design", "--generator", uuid, "--reference", salt_reference.uuid)
    assert "Nothing is asked for" in invoke(*base).output
    assert "it can on band_gap" in invoke(*base, "--set", "piezo_max=7.5").output
    assert "no recipe" in invoke(*base, "--recipe", "mattergpt-pizo").output
    assert "is not a condition" in invoke(*base, "--set", "band_gap").output
    assert "mattergpt-piezo" in invoke("design", "--recipe", "list").output


def test_runs_are_listed_and_their_steps_shown(invoke: Any, salt_reference: Any) -> None:
    from crysgen_aiida.store.candidates import creator_of

    process = creator_of(salt_reference)
    listed = json.loads(invoke("run", "list", "--limit", "1000", "--format", "json").stdout)
    assert process.uuid in [r["uuid"] for r in listed]
    (step,) = json.loads(invoke("run", "status", process.pk, "--format", "json").stdout)
    assert (step["state"].split(",")[0], step["exit"]) == ("finished", 0)
    assert "not a run" in invoke("run", "status", salt_reference.pk).output


def test_a_folder_that_is_no_finished_run_is_not_imported(invoke: Any, tmp_path: Path) -> None:
    done = invoke("run", "import", tmp_path)
    assert done.exit_code == 1
    assert "job.json" in done.output


def test_progress_is_the_last_whole_line_of_the_workers_file(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from crysgen_aiida.cli.following import describe, last_progress

    job = SimpleNamespace(
        get_remote_workdir=lambda: str(tmp_path),
        computer=SimpleNamespace(transport_type="core.local"),
        process_label="RelaxCalculation<chgnet>",
        get_state=lambda: None,
        process_state=None,
    )
    assert last_progress(job) is None
    first = {"stage": "relax", "done": 32, "total": 64, "rate": 2.5}
    (tmp_path / "progress.jsonl").write_text("x" * 9000 + "\n" + json.dumps(first) + '\n{"stage": "rel')
    assert last_progress(job) == first
    assert describe(job) == "relax<chgnet>: relax 32/64 (50 %), 2.5/s"


def test_a_curve_is_drawn_between_its_extremes() -> None:
    assert sparkline([0.0, 1.0]) == "▁█"
    assert len(sparkline([float(i) for i in range(500)])) == 40
    assert set(sparkline([2.0, 2.0])) == {"▁"}
