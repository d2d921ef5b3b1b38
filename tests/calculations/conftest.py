"""Jobs that are written but not run, and finished jobs made of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def generator_folder(tmp_path: Path) -> Path:
    """A generator of the sixth kind, the smallest there is."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "generator"
    folder.mkdir()
    save_file({"counts": np.ones(86, dtype=np.float32)}, folder / "weights.safetensors")
    config = {"generator": "exchange", "generator_version": "1", "conditions": ["band_gap"], "seed": 1}
    (folder / "config.json").write_text(json.dumps({**config, "spec": {"swaps": 1}}))
    (folder / "vocabulary.json").write_text('{"known": []}')
    (folder / "history.jsonl").write_text("")
    return folder


@pytest.fixture
def sets(aiida_profile: Any, sixth_generator: Path, salts: Any, generator_folder: Path) -> dict[str, Any]:
    """One stored node of every kind, by the link label it is used under."""
    import pyarrow as pa

    from crysgen_aiida.crystals.table import PropertyTable, ReferenceSet, SequenceSet
    from crysgen_aiida.data.generator import GeneratorData
    from crysgen_aiida.data.packed import (
        CrystalSetData,
        PropertyTableData,
        ReferenceEnergiesData,
        SequenceSetData,
    )

    sequences = SequenceSet(pa.table({"sequence": ["a", "b"], "split": ["train", "val"]}))
    energies = pa.table({"formula": ["Na", "Cl"], "energy_per_atom": [-1.0, -2.0], "source": ["x", "x"]})
    return {
        "crystals": CrystalSetData.get_or_create(salts),
        "training_set": SequenceSetData.get_or_create(sequences),
        "sequences": SequenceSetData.get_or_create(sequences),
        "generator": GeneratorData.get_or_create(generator_folder),
        "reference": ReferenceEnergiesData.get_or_create(ReferenceSet(energies, {"name": "two"})),
        "table": PropertyTableData.get_or_create(PropertyTable(pa.table({"status": ["ok"]}))),
        "bands": PropertyTableData.get_or_create(PropertyTable(pa.table({"status": ["ok"]}))),
    }


@pytest.fixture
def inputs_of(sets: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Inputs that make a valid job of a verb."""

    def make(verb: str) -> dict[str, Any]:
        from crysgen_aiida.calculations.verbs import BY_VERB

        extra: dict[str, dict[str, Any]] = {
            "prepare": {"generator_name": "exchange"},
            "train": {"generator_name": "exchange", "spec": {"swaps": 2}},
            "sample": {"parameters": {"n": 4, "conditions": {"band_gap": 2.0}}},
            "decode": {"generator_name": "exchange"},
            "relax": {"parameters": {"potential": {"name": "chgnet"}, "relax": {"fmax": 0.1}}},
            "screen": {"known": {"starter": sets["crystals"]}, "unrelaxed": sets["crystals"]},
            "fingerprint": {"parameters": {"labelled": ["band_gap"]}},
            "phonon": {"parameters": {"potential": {"name": "chgnet"}, "phonon": {"min_length": 12}}},
            "elastic": {"parameters": {"elastic": {"strains": [0.005]}}},
            "kappa": {"parameters": {"kappa": {"temperatures": [300, 500], "method": "lbte"}}},
            "predict": {},
            "transport": {"parameters": {"transport": {"doping": [1e19, 1e20]}}},
            "reference": {"parameters": {"name": "mine"}},
        }
        return {**{label: sets[label] for label in BY_VERB[verb].SETS}, **extra[verb]}

    return make


@pytest.fixture
def write_job(inputs_of: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., tuple[Path, Any, Any]]:
    """Write the folder of a job as it would be submitted; return it, the calc info and the process."""

    def write(
        verb: str, scheduler: str = "core.direct", options: dict[str, Any] | None = None, **more: Any
    ) -> tuple[Path, Any, Any]:
        from aiida.common.folders import Folder
        from aiida.engine.utils import instantiate_process
        from aiida.manage import get_manager
        from aiida_fixtures import make_code, make_computer

        from crysgen_aiida.calculations.verbs import BY_VERB

        computer = make_computer(scheduler.removeprefix("core."), scheduler)
        code = make_code(computer, Path("crysgen-worker"), label="written")
        inputs = {**inputs_of(verb), **more, "code": code, "metadata": {"options": options or {}}}
        process = instantiate_process(get_manager().create_runner(communicator=None), BY_VERB[verb], **inputs)
        folder = Folder(tmp_path / "job")
        folder.create()
        info = process.presubmit(folder)
        return tmp_path / "job", info, process

    return write
