"""Presets of FTCP are the published cases."""

from __future__ import annotations

import numpy as np
import pytest

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.generators.ftcp.constraints import read_constraints, read_tolerances
from crysgen_aiida.generators.ftcp.info import INFO


@pytest.mark.parametrize(
    ("preset", "sizes", "coefficients", "rates"),
    [
        ("paper", (20, 3), (2.0, 10.0), (5e-4, 1e-4, 5e-5)),
        ("paper-band-gap", (40, 4), (2.0, 10.0), (5e-4, 1e-4, 5e-5)),
        ("paper-thermoelectric", (40, 4), (3.0, 20.0, 5.0), (8e-4, 2e-4, 5e-5)),
    ],
)
def test_the_published_cases(
    preset: str, sizes: tuple[int, int], coefficients: tuple[float, ...], rates: tuple[float, ...]
) -> None:
    spec = INFO.make_spec({}, preset)
    assert spec.mode == "paper"
    assert (spec.representation.max_sites, spec.representation.max_elements) == sizes
    assert (spec.loss.beta, spec.loss.targets, spec.loss.sparse)[: len(coefficients)] == coefficients
    assert (spec.training.lr, *spec.training.step_rates) == rates
    assert (spec.training.epochs, spec.training.batch_size, spec.training.keep) == (200, 256, "last")
    assert (spec.loss.reconstruction, spec.loss.kl, spec.training.optimizer) == ("squared", "mean", "rmsprop")
    assert (spec.representation.kpoints, spec.representation.occupancy) == ("paper", "paper")
    assert (spec.sampling.encoder_noise, spec.sampling.noise) == (True, "unit")
    assert (spec.data.split, spec.data.scaler_rows, spec.data.min_elements) == ("rows", "all", 3)


def test_the_thermoelectric_case_has_the_labels_there_are() -> None:
    spec = INFO.make_spec({}, "paper-thermoelectric")
    assert spec.data.sparse_targets == ("power_factor_over_tau",)
    assert not set(spec.data.labels) & set(spec.data.log1p), "one value of 1e6 among 1e13 would be half of the scale"
    assert (spec.sampling.rank_by, spec.sampling.scale) == ("predicted", 0.9)


@pytest.mark.parametrize("preset", [None, *INFO.presets])
def test_a_spec_survives_being_written_down(preset: str | None) -> None:
    import dataclasses
    import json

    spec = INFO.make_spec({}, preset)
    assert INFO.make_spec(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_constraints_are_read_and_hold_where_they_should() -> None:
    values = np.array([-2.0, -1.5, 0.0, np.nan])
    held = {
        text: read_constraints([f"formation_energy_per_atom{text}"])[0].holds(values).tolist()
        for text in ("<-1.5", " <= -1.5", " > -1.5", ">=-1.5")
    }
    assert held == {
        "<-1.5": [True, False, False, False],
        " <= -1.5": [True, True, False, False],
        " > -1.5": [False, False, True, False],
        ">=-1.5": [False, True, True, False],
    }
    assert read_tolerances(["band_gap:0.3"]) == {"band_gap": 0.3}
    for text in ("band_gap = 3", "band_gap < ", "band_gap < 1e", "gap < 1"):
        with pytest.raises(ImpossibleRequest):
            read_constraints([text])
    for text in ("band_gap:0", "band_gap:x", "gap:1"):
        with pytest.raises(ImpossibleRequest):
            read_tolerances([text])
