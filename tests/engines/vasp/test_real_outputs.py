"""Outputs of real VASP runs, imported as anybody would import a run done elsewhere. These numbers are VASP's.

The files come from the source distribution of aiida-vasp 5.1.0 (MIT), trimmed by trim.py; with
CRYSGEN_VASP_TEST_DATA the whole files and more of them are read.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.engines.vasp.imports import import_run, results_of
from crysgen_aiida.engines.vasp.outcar import banner, elastic_tensors, piezo_tensors
from crysgen_aiida.engines.vasp.results import dfpt_results, force_constants, frequencies

REAL = Path(__file__).parent.parent / "vasp_real"


@pytest.fixture
def vasp_code(localhost):
    """What somebody says was VASP."""
    return orm.InstalledCode(computer=localhost, filepath_executable="/opt/vasp/vasp_std", label="vasp-5.4.4").store()


@pytest.fixture
def imported(vasp_code, potcars, tmp_path):
    """Import a folder, from a copy: the importer writes into it."""

    def run(source, stage, code=None):
        folder = tmp_path / f"{Path(source).name}-{stage}"
        folder.mkdir()
        for path in Path(source).iterdir():
            if path.stat().st_size and path.name != "#vasprun.xml#":
                (folder / path.name).write_bytes(path.read_bytes())
        return import_run(str(folder), code or vasp_code, stage, pseudo_family=potcars, stdout="std.log")

    return run


def test_field_response_of_a_zinc_thiophosphate(imported):
    job = imported(REAL / "born_effective_charge", "dfpt")
    found = results_of(job, "dfpt")
    held = found["results"].get_dict()
    assert (held["engine"], held["method"]) == ("vasp", "vasp-pbesol")  # its INCAR says GGA = PS
    assert held["facts"]["program"].startswith("vasp.5.4.4")
    tensors = found["tensors"]
    assert set(tensors.get_arraynames()) == {"dielectric_electronic", "born_charges", "piezo_electronic"}
    np.testing.assert_allclose(np.diag(tensors.get_array("dielectric_electronic")), [5.894056, 5.894056, 6.171821])
    # OUTCAR: x 0 0 0 0 0 0.42154, y 0 0 0 0 -0.42154 0, z 0.57059 -0.57059 0 0 0 0 in XX YY ZZ XY YZ ZX
    expected = np.zeros((3, 6))
    expected[0, 4], expected[1, 3], expected[2, 0], expected[2, 1] = 0.42154, -0.42154, 0.57059, -0.57059
    np.testing.assert_allclose(tensors.get_array("piezo_electronic"), expected, atol=1e-8)
    # -4: e24 = -e15, e32 = -e31; nothing was computed with the ions relaxed
    assert "piezo_max" not in held["values"]
    assert held["values"]["dielectric_electronic"] == pytest.approx((2 * 5.894056 + 6.171821) / 3)
    born = tensors.get_array("born_charges")
    assert born.shape == (26, 3, 3)
    np.testing.assert_allclose(
        born[0], [[2.80527, -0.26115, 0.07348], [-0.26091, 2.80541, 0.07318], [-0.03222, -0.03222, 3.0801]], atol=2e-3
    )
    np.testing.assert_allclose(born.sum(axis=0), 0, atol=0.01)


def test_piezo_table_is_that_of_the_stress_matrices_of_each_field():
    # the same run also prints, per field direction, the stress as a matrix: it settles order and factors of shears
    text = (REAL / "born_effective_charge" / "OUTCAR").read_text()
    e = piezo_tensors(text)["electronic"]
    number = r"(-?\d+\.\d+)"
    for k in range(3):
        pattern = rf"FIELD DIRECTION {k + 1}  \(C/m\^2\)\s+-+\s+" + r"\s*".join([number] * 9)
        matrix = np.array([float(x) for x in re.search(pattern, text).groups()]).reshape(3, 3)
        voigt = [matrix[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
        np.testing.assert_allclose(e[k], voigt, atol=5e-4)


def test_elastic_constants_and_modes_of_silicon(imported):
    job = imported(REAL / "disp_details", "elastic")
    found = results_of(job, "elastic")
    held = found["results"].get_dict()
    assert held["method"] == "vasp-pbe"
    clamped, relaxed = (found["tensors"].get_array(f"elastic_{n}") for n in ("clamped", "relaxed"))
    np.testing.assert_allclose(np.diag(relaxed), [167.45786] * 3 + [77.58054] * 3)
    np.testing.assert_allclose(np.diag(clamped), [167.45786] * 3 + [112.26622] * 3)
    assert held["values"]["bulk_modulus_vrh"] == pytest.approx((167.45786 + 2 * 70.4739) / 3, rel=1e-4)
    modes = results_of(job, "phonon")
    gamma = modes["tensors"].get_array("gamma_frequencies")
    np.testing.assert_allclose(gamma, [0, 0, 0, 15.729112, 15.729112, 15.729112], atol=1e-3)  # OUTCAR: 2PiTHz table
    assert modes["results"].get_dict()["values"]["phonon_min_frequency_gamma"] == pytest.approx(15.729112, abs=1e-3)


def test_dielectric_tensor_with_the_ions(imported):
    held = results_of(imported(REAL / "disp_details", "dfpt"), "dfpt")
    values = held["results"].get_dict()["values"]
    # silicon has no polar modes
    assert values["dielectric_total"] == pytest.approx(values["dielectric_electronic"], abs=0.05)
    assert values["dielectric_electronic"] > 10


def test_a_stand_in_is_not_made_vasp_by_importing_it(imported, localhost):
    replayer = orm.InstalledCode(computer=localhost, filepath_executable="/usr/bin/mock-vasp", label="vasp").store()
    held = results_of(imported(REAL / "disp_details", "elastic", replayer), "elastic")["results"].get_dict()
    assert (held["engine"], held["method"]) == ("stand-in", "stand-in-vasp")


def test_files_that_say_they_are_not_vasps_win_over_the_code(imported, vasp_code):
    (entry,) = (p for p in (REAL.parent / "vasp_registry").glob("elastic*"))
    job = imported_entry(imported, entry)
    held = results_of(job, "elastic")["results"].get_dict()
    assert held["engine"] == "stand-in"
    assert held["method"] == "stand-in-stand-in-chgnet-and-abinit-not-vasp"


def imported_entry(imported, entry):
    """Import an entry of the registry as if it were a run."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for kind in ("inp", "out"):
            for path in (entry / kind).iterdir():
                Path(name, path.name).write_bytes(path.read_bytes())
        return imported(name, "elastic")


def test_runs_that_cannot_be_read_say_why(imported):
    job = imported(REAL / "disp_details", "elastic")
    with pytest.raises(ImpossibleRequest, match="need two runs"):
        results_of(job, "bands")
    with pytest.raises(ImpossibleRequest, match="no stage 'tea'"):
        results_of(job, "tea")
    with pytest.raises(ImpossibleRequest, match="uploadfamily"):
        import_run(str(REAL / "disp_details"), job.inputs.code, "elastic", pseudo_family="NOPE", stdout="std.log")


@pytest.mark.parametrize("name", ["VASP 5.4", "VASP 6", "finite differences"])
def test_headings_of_piezo_tables(name):
    heading = {
        "VASP 5.4": "PIEZOELECTRIC TENSOR  for field in x, y, z        (C/m^2)",
        "VASP 6": "PIEZOELECTRIC TENSOR (including local field effects)  for field in x, y, z        (C/m^2)",
        "finite differences": "PIEZOELECTRIC TENSOR (including local field effects) (C/m^2)",
    }[name]
    columns = "          XX          YY          ZZ          XY          YZ          ZX"
    rows = "\n".join(f"  {d} " + "".join(f"{10 * i + j:12.5f}" for j in range(6)) for i, d in enumerate("xyz"))
    without = heading.replace("including", "excluding")
    ionic = "PIEZOELECTRIC TENSOR IONIC CONTR  for field in x, y, z        (C/m^2)"
    text = f"vasp\n {heading}\n{columns}\n {'-' * 80}\n{rows}\n\n"
    if without != heading:
        text += f" {without}\n{columns}\n {'-' * 80}\n{rows.replace('0.00000', '9.00000', 1)}\n\n"
    text += f" {ionic}\n{columns}\n {'-' * 80}\n{rows}\n {'-' * 80}\n"
    found = piezo_tensors(text)
    # ours: xx yy zz yz xz xy
    np.testing.assert_array_equal(found["electronic"][1], [10, 11, 12, 14, 15, 13])
    np.testing.assert_array_equal(found["ionic"], found["electronic"])
    with pytest.raises(BadInput, match="damaged"):
        piezo_tensors(text[: text.index(ionic) + 300].replace("12.00000", "********"))


# -- the whole files, where they are ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["born_effective_charge", "disp_details"])
def test_trimmed_files_read_as_the_whole_ones(real_outputs, name):
    whole, trimmed = ((folder / name / "OUTCAR").read_text() for folder in (real_outputs, REAL))
    assert banner(whole) == banner(trimmed)
    for read in (piezo_tensors, elastic_tensors):
        a, b = read(whole), read(trimmed)
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_tables_are_those_pymatgen_reads(real_outputs):
    from pymatgen.io.vasp import Outcar

    order = [0, 1, 2, 4, 5, 3]
    with np.errstate(all="ignore"):
        piezo = Outcar(str(real_outputs / "born_effective_charge" / "OUTCAR"))
        piezo.read_piezo_tensor()
        elastic = Outcar(str(real_outputs / "disp_details" / "OUTCAR"))
        elastic.read_elastic_tensor()
    ours = piezo_tensors((real_outputs / "born_effective_charge" / "OUTCAR").read_text())["electronic"]
    np.testing.assert_array_equal(np.array(piezo.data["piezo_tensor"])[:, order], ours)
    total = elastic_tensors((real_outputs / "disp_details" / "OUTCAR").read_text())["total"]
    np.testing.assert_allclose(np.array(elastic.data["elastic_tensor"])[np.ix_(order, order)] / 10, total)


def test_force_constants_of_ibrion_8(aiida_profile, real_outputs):
    from aiida_vasp.parsers.content_parsers import VasprunParser
    from aiida_vasp.parsers.vasp import get_structure_node

    content = (real_outputs / "disp" / "vasprun.xml").read_bytes()
    folder = orm.FolderData()
    folder.base.repository.put_object_from_filelike(io.BytesIO(content), "vasprun.xml")
    constants = force_constants(folder)
    parsed = VasprunParser(handler=io.BytesIO(content)).get_all_quantities()[0]
    found = frequencies(get_structure_node(parsed["structure"]), constants)
    assert constants.shape == (8, 8, 3, 3)
    # VASP's own eigenvalues of the same Hessian, minus eV/A^2/amu
    theirs = np.sort(-np.array(parsed["dynmat"]["dyneig"]))
    np.testing.assert_allclose(np.sign(found) * found**2, np.sign(theirs) * abs(theirs) * 15.633302**2, atol=0.05)


@pytest.mark.parametrize(("name", "least"), [("lepsilon", 2.5), ("localfield", 10.0)])
def test_dielectric_tensors_of_older_runs(aiida_profile, real_outputs, name, least):
    from aiida_vasp.parsers.content_parsers import VasprunParser
    from aiida_vasp.parsers.vasp import get_structure_node

    with (real_outputs / name / "vasprun.xml").open("rb") as handle:
        parsed = VasprunParser(handler=handle).get_all_quantities()[0]
    folder = orm.FolderData()
    folder.base.repository.put_object_from_filelike(io.BytesIO(b" vasp.5.4.1\n"), "OUTCAR")
    arrays = {
        "dielectrics": orm.ArrayData({k: v for k, v in parsed["dielectrics"].items() if v is not None}),
        "born_charges": orm.ArrayData({"born_charges": parsed["born_charges"]}),
    }
    found = dfpt_results(
        structure=get_structure_node(parsed["structure"]),
        misc=orm.Dict({"version": parsed["version"]}),
        retrieved=folder,
        origin=orm.Dict({"engine": "vasp", "method": "vasp-pbesol"}),
        **arrays,
    )
    assert found["results"].get_dict()["values"]["dielectric_electronic"] > least


def test_bands_of_silicon(imported, real_outputs, tmp_path):
    static, path = (
        next(
            f
            for f in sorted(real_outputs.glob("mock_silicon_bands-*"))
            if ("ICHARG" in (f / "inp/INCAR").read_text().upper()) is along
        )
        for along in (False, True)
    )
    jobs = []
    for name, folder in (("static", static), ("path", path)):
        whole = tmp_path / name
        whole.mkdir()
        for kind in ("inp", "out"):
            for file in (folder / kind).iterdir():
                (whole / file.name).write_bytes(file.read_bytes())
        jobs.append(imported(whole, "bands"))
    found = results_of(jobs[0], "bands", jobs[1])
    held = found["results"].get_dict()
    assert 0.4 < held["values"]["band_gap"] < 0.7  # PBE and its kin
    assert held["facts"]["direct"] is False
