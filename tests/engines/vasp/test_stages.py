"""The stages through aiida-vasp's unmodified work chains, mock-vasp and a registry recorded for this.

The numbers are those of a stand-in (CHGNet and ABINIT): what is tested is that they arrive where they should, with
units, signs and axes, and that nothing calls them VASP.
"""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm


def results(node):
    assert node.is_finished_ok, f"{node.exit_status} {node.exit_message}"
    held = node.outputs.results.get_dict()
    assert held["method"] == "stand-in-mock-vasp"
    assert held["engine"] == "stand-in"
    assert "vasp-pbe" not in str(held)
    assert held["facts"]["program"].startswith("stand-in")
    return held


def recorded(name, node):
    """Every job must have been replayed from the registry."""
    jobs = [n for n in node.called_descendants if isinstance(n, orm.CalcJobNode)]
    assert jobs
    for job in jobs:
        assert "Using test data in path" in job.outputs.retrieved.base.repository.get_object_content("vasp_output")
    return jobs


def test_relax(run_stage, mock_vasp, aln):
    node = run_stage("relax", aln, mock_vasp("relax"))
    held = results(node)
    jobs = recorded("relax", node)
    assert len(jobs) >= 2  # at least one relaxation, and the static run at the relaxed cell
    relaxed = node.outputs.structure
    values = held["values"]
    assert set(values) == {"energy_per_atom", "volume_per_atom", "density", "max_force", "max_stress"}
    assert values["volume_per_atom"] == pytest.approx(relaxed.get_cell_volume() / 2)
    assert values["max_force"] < 0.05
    assert relaxed.get_cell_volume() != pytest.approx(aln.get_cell_volume(), rel=1e-3)
    misc = jobs[-1].outputs.misc.get_dict()
    assert values["energy_per_atom"] == pytest.approx(misc["total_energies"]["energy_extrapolated"] / 2)
    assert values["max_stress"] == pytest.approx(np.abs(misc["stress"]).max() / 10)
    # MP-compatible inputs reached VASP: spin, moments and cutoff of the set, forces of the protocol
    incar = next(j for j in jobs if j.inputs.parameters.get_dict().get("isif") == 3).inputs.parameters.get_dict()
    assert incar["ispin"] == 2
    assert incar["magmom"] == [0.6, 0.6]
    assert incar["ediffg"] == -0.05
    assert incar["encut"] == 300
    assert held["facts"]["potcars"]["Al"]["symbol"] == "Al"
    assert len(held["facts"]["potcars"]["Al"]["sha512"]) == 128


def test_bands(run_stage, mock_vasp, aln):
    node = run_stage("bands", aln, mock_vasp("bands"), {"line_density": 2})
    held = results(node)
    static, along = sorted(recorded("bands", node), key=lambda j: j.pk)
    assert along.inputs.parameters.get_dict()["icharg"] == 11
    bands = node.outputs.bands
    energies = bands.get_bands()
    labels = [label for _, label in bands.labels]
    assert labels[0] == "GAMMA"
    assert "X" in labels
    assert len(bands.get_kpoints()) == len(energies)
    # four filled bands of eight electrons: the gap by hand
    edges = np.concatenate([energies, static.outputs.bands.get_bands()])
    gap = edges[:, 4].min() - edges[:, 3].max()
    assert held["values"]["band_gap"] == pytest.approx(gap)
    assert gap > 1
    assert held["facts"]["metal"] is False
    assert held["facts"]["direct"] is False  # Gamma to X


def test_dfpt(run_stage, mock_vasp, aln):
    node = run_stage("dfpt", aln, mock_vasp("dfpt"))
    held = results(node)
    (job,) = recorded("dfpt", node)
    incar = job.inputs.parameters.get_dict()
    assert (incar["ibrion"], incar["lepsilon"], incar["addgrid"], incar["ediff"]) == (8, True, True, 1e-6)
    tensors = {name: node.outputs.tensors.get_array(name) for name in node.outputs.tensors.get_arraynames()}
    assert {name: t.shape for name, t in tensors.items()} == {
        "dielectric_electronic": (3, 3),
        "dielectric_total": (3, 3),
        "born_charges": (2, 3, 3),
        "piezo_electronic": (3, 6),
        "piezo_total": (3, 6),
        "gamma_frequencies": (6,),
    }
    # zincblende: e14 = e25 = e36 alone, yz xz xy; clamped part negative, the total positive (Al at the origin)
    for name, sign in (("piezo_electronic", -1), ("piezo_total", 1)):
        e = tensors[name]
        assert (np.sign(e[[0, 1, 2], [3, 4, 5]]) == sign).all()
        assert np.abs(e).sum() == pytest.approx(np.abs(e[[0, 1, 2], [3, 4, 5]]).sum())
    assert tensors["born_charges"][0, 0, 0] > 2  # aluminium
    assert held["values"]["dielectric_total"] > held["values"]["dielectric_electronic"] > 1
    assert held["values"]["piezo_max"] == pytest.approx(abs(tensors["piezo_total"][0, 3]), rel=1e-2)
    assert 10 < held["values"]["phonon_min_frequency_gamma"] < 25
    np.testing.assert_allclose(tensors["gamma_frequencies"][:3], 0, atol=0.05)
    no_potential_in(node)


def no_potential_in(node):
    """No node that an archive of this process would hold has a POTCAR in it."""
    processes = [node, *node.called_descendants]
    nodes = {n.pk: n for n in processes}
    for process in processes:
        links = [*process.base.links.get_incoming().all_nodes(), *process.base.links.get_outgoing().all_nodes()]
        nodes.update({n.pk: n for n in links})
    assert any(n.node_type.startswith("data.vasp.potcar.") for n in nodes.values())
    for held in nodes.values():
        assert not held.node_type.startswith("data.vasp.potcar_file")
        for name in held.base.repository.list_object_names():
            if "POTCAR" in name or isinstance(held, orm.FolderData):
                assert "no potential" not in held.base.repository.get_object_content(name, "rb").decode(
                    errors="replace"
                )


def test_elastic(run_stage, mock_vasp, aln):
    node = run_stage("elastic", aln, mock_vasp("elastic"))
    held = results(node)
    clamped, relaxed = (node.outputs.tensors.get_array(f"elastic_{n}") for n in ("clamped", "relaxed"))
    np.testing.assert_allclose(clamped[:3, :3], relaxed[:3, :3], atol=1.0)  # cubic: only shears move the atoms
    assert (relaxed[[3, 4, 5], [3, 4, 5]] < clamped[[3, 4, 5], [3, 4, 5]]).all()
    assert held["values"]["bulk_modulus_vrh"] == pytest.approx((relaxed[0, 0] + 2 * relaxed[0, 1]) / 3, rel=1e-2)
    assert held["facts"]["incar"]["NFREE"] == 2


def test_phonon(run_stage, mock_vasp, aln):
    node = run_stage("phonon", aln, mock_vasp("phonon"), {"min_length": 5.0})
    held = results(node)
    constants = node.outputs.force_constants.get_array("force_constants")
    assert held["facts"]["supercell"] == [2, 2, 2]
    assert constants.shape == (16, 16, 3, 3)
    values = held["values"]
    assert values["phonon_min_frequency_commensurate"] <= values["phonon_min_frequency_gamma"] + 1e-6
    # phonopy's answer for the same force constants
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = aln.get_pymatgen()
    unit = PhonopyAtoms(
        symbols=[s.specie.symbol for s in crystal], scaled_positions=crystal.frac_coords, cell=crystal.lattice.matrix
    )
    phonopy = Phonopy(unit, supercell_matrix=np.diag([2, 2, 2]), primitive_matrix=np.eye(3))
    made = np.array(node.outputs.force_constants.creator.inputs.supercell.get_pymatgen().frac_coords)
    theirs = np.array(phonopy.supercell.scaled_positions)
    order = [int(np.abs((made - t + 0.5) % 1 - 0.5).sum(axis=1).argmin()) for t in theirs]
    phonopy.force_constants = constants[np.ix_(order, order)]
    phonopy.run_qpoints([[0, 0, 0]])
    np.testing.assert_allclose(
        np.sort(phonopy.get_qpoints_dict()["frequencies"][0]),
        node.outputs.tensors.get_array("gamma_frequencies"),
        atol=2e-3,
    )
