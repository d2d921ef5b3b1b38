"""INCAR, k-points, +U, moments and POTCARs come from the input sets of the Materials Project, and settings win."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.protocols import protocol_names, stage_settings
from crysgen_aiida.engines.vasp.gap import band_gap
from crysgen_aiida.engines.vasp.inputs import functional, vasp_inputs

ROCK_SALT = Lattice([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]])


def told(settings, symbols=("Fe", "O"), kinds=None, **options):
    crystal = Structure(ROCK_SALT, symbols, [[0, 0, 0], [0.5, 0.5, 0.5]])
    return vasp_inputs(crystal, list(kinds or symbols), settings, **options)


def test_relaxation_is_that_of_the_materials_project():
    found = told({**stage_settings("vasp", "relax"), "incar": {}})
    crystal = Structure(ROCK_SALT, ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    theirs = MPRelaxSet(crystal).incar
    for tag in ("ENCUT", "EDIFF", "ISPIN", "PREC", "ALGO", "LASPH", "MAGMOM", "ISMEAR", "IBRION", "ISIF"):
        assert found.incar[tag] == theirs[tag]
    assert found.u_values == {"Fe": ("d", 5.3)}
    assert found.potcars == {"Fe": "Fe_pv", "O": "O"}
    assert not {"LDAU", "LDAUU", "LDAUL"} & set(found.incar)


def test_settings_win_and_null_takes_a_tag_out():
    settings = {**stage_settings("vasp", "relax"), "potcars": {"Fe": "Fe"}, "magmom": {"Fe1": -4}}
    settings["incar"] = {"encut": 700, "LORBIT": None, "LDAU": False}
    found = told(settings, kinds=("Fe1", "O"))
    assert found.incar["ENCUT"] == 700
    assert "LORBIT" not in found.incar
    assert found.u_values == {}
    assert found.incar["MAGMOM"] == [-4.0, 0.6]
    assert found.potcars == {"Fe1": "Fe", "O": "O"}


@pytest.mark.parametrize("protocol", sorted(protocol_names("vasp")))
def test_responses_are_tight(protocol):
    for stage, ibrion in (("dfpt", 8), ("phonon", 8), ("elastic", 6)):
        found = told(
            stage_settings("vasp", stage, protocol), ("Mg", "O"), **{"lepsilon": True} if stage == "dfpt" else {}
        )
        assert found.incar["IBRION"] == ibrion
        assert found.incar["ADDGRID"] is True
        assert found.incar["LREAL"] is False
        if protocol != "fast":
            assert found.incar["EDIFF"] == 1e-8
            assert found.incar["ENCUT"] >= 680


def test_the_paper_relaxes_twice():
    settings = stage_settings("vasp", "relax", "paper")
    first, second = settings["passes"]
    assert first["incar"]["ISPIN"] == 1
    assert first["kpoints_density"] == 32
    assert second == {}


def test_r2scan_brings_its_own_spacing_and_name():
    settings = {**stage_settings("vasp", "relax"), "input_set": "MPScanRelaxSet"}
    found = told(settings, ("Mg", "O"))
    assert found.incar["METAGGA"].lower() == "r2scan"
    assert "KSPACING" not in found.incar
    assert found.mesh == tuple(int(np.ceil(b / 0.22)) for b in ROCK_SALT.reciprocal_lattice.abc)
    assert functional(found.incar, ["PAW_PBE Mg_pv"], False) == "r2scan"


def test_unknown_elements_and_sets_are_refused():
    settings = stage_settings("vasp", "relax")
    with pytest.raises(ImpossibleRequest, match="no input set"):
        told({**settings, "input_set": "MITRelaxSet"})
    with pytest.raises(ImpossibleRequest, match="no POTCAR for Po"):
        told(settings, ("Po", "O"))
    assert told({**settings, "potcars": {"Po": "Po_d"}}, ("Po", "O")).potcars["Po"] == "Po_d"


@pytest.mark.parametrize(
    ("incar", "titles", "has_u", "name"),
    [
        ({}, ["PAW_PBE Si 05Jan2001"], False, "pbe"),
        ({}, ["PAW Si 02Apr1999"], False, "lda"),
        ({"gga": "PS"}, ["PAW_PBE Si"], False, "pbesol"),
        ({"GGA": "Pe"}, ["PAW_PBE Fe"], True, "pbe+u"),
        ({"LHFCALC": True, "HFSCREEN": 0.2}, ["PAW_PBE Si"], False, "hse06"),
    ],
)
def test_functionals_have_names(incar, titles, has_u, name):
    assert functional(incar, titles, has_u) == name


@given(st.integers(1, 3), st.floats(0.01, 5), st.floats(-3, 3), st.lists(st.floats(0, 0.9), min_size=2, max_size=6))
def test_gap_is_the_distance_of_the_edges(filled, gap, shift, dips):
    # bands one eV apart that dip by less: the edges are known
    n = len(dips)
    below = np.array([[b - d for b in range(filled)] for d in dips])
    above = np.array([[filled - 1 + gap + d + b for b in range(2)] for d in dips])
    energies = np.hstack([below, above]) + shift
    occupations = np.hstack([np.ones((n, filled)), np.zeros((n, 2))])
    found = band_gap(energies, occupations, np.ones(n))
    assert found.gap == pytest.approx(energies[:, filled].min() - energies[:, filled - 1].max())
    assert not found.why_metal
    # a path may only close the gap
    path = np.array([[*range(filled), filled - 1 + gap / 2, filled + gap]]) + shift
    assert band_gap(energies, occupations, np.ones(n), path).gap <= found.gap + 1e-9


def test_metals_and_missing_bands():
    crossing = np.array([[0.0, 1.0], [2.0, 1.5]])
    partly = band_gap(crossing, [[1.0, 0.0], [0.5, 0.3]], [0.5, 0.5])
    assert partly.gap == 0
    assert "partly filled" in partly.why_metal
    overlapping = band_gap(np.array([[0.0, 0.5], [1.0, 1.2]]), [[1.0, 0.0], [1.0, 0.0]], [1, 1])
    assert "overlap" in overlapping.why_metal
    # two spins: the gap lies between the edges of whichever spin
    up, down = [[0.0, 3.0], [0.5, 3.0]], [[-1.0, 2.0], [0.0, 1.5]]
    spins = band_gap(np.array([up, down]), np.array([[[1, 0]] * 2] * 2), [1, 1])
    assert (spins.gap, spins.direct) == (1.0, False)
    with pytest.raises(ValueError, match="NBANDS"):
        band_gap([[0.0], [1.0]], [[1.0], [1.0]], [1, 1])
