"""From a data set to phonons and elastic constants on the command line, through a real daemon."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

SET = ("--set", "fmax=0.005", "--set", "max_steps=200")


@pytest.mark.slow
@pytest.mark.daemon
def test_relaxed_crystals_get_phonons_and_elastic_constants(daemon, worker_code):
    from aiida import orm
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.cli.root import crysgen
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    def run(*words):
        command = ["-p", daemon, *map(str, words), "--code", worker_code.full_label, "--format", "json"]
        return CliRunner().invoke(crysgen, command)

    def made(*words):
        done = run(*words)
        assert done.exit_code == 0, done.output
        return orm.load_node(json.loads(done.stdout)["uuid"])

    diamond = Structure(Lattice([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]), ["Si"] * 2, [[0, 0, 0], [0.25] * 3])
    given = CrystalSetData.get_or_create(CrystalSet.from_structures([diamond]))
    relaxed = made("dataset", "relax", given.pk, *SET)
    reference = made("hull", "build", relaxed.pk, "--name", "silicon")
    assert reference.creator.inputs.crystals.uuid == relaxed.uuid
    assert (reference.label, reference.metadata["scheme"]) == ("silicon", "self-consistent")
    shown = CliRunner().invoke(crysgen, ["-p", daemon, "hull", "show", "silicon", "Si", "--format", "json"])
    assert json.loads(shown.stdout)[0]["hull_energy"] == pytest.approx(relaxed.table.values("energy_per_atom")[0])
    kept = made("dataset", "relax", given.pk, "--set", "optimizer=lbfgs", "--set", "fix_symmetry=true")
    assert kept.metadata["relax_spec"]["fix_symmetry"] is True

    phonons = made("dataset", "phonons", relaxed.pk, "--set", "min_length=7", "--set", "mesh_length=20")
    elastic = made("dataset", "elastic", relaxed.pk)
    assert phonons.table.column("phonon_stable") == [True]
    assert elastic.table.column("elastic_stable") == [True]
    assert relaxed.label.startswith("relaxed crystals of ")
    assert phonons.creator.inputs.crystals.uuid == relaxed.uuid, "the crystal they are of is a node"
    assert elastic.column_stats["bulk_modulus_vrh"]["n_valid"] == 1

    usage = CliRunner().invoke(crysgen, ["-p", daemon, "dataset", "usage", str(given.pk), "--format", "json"])
    assert {"relaxed", "phonons", "elastic constants"} <= {step["what"] for step in json.loads(usage.stdout)["made"]}
    refused = run("dataset", "phonons", relaxed.pk, "--set", "displacment=0.01")
    assert refused.exit_code != 0
    assert "did you mean displacement" in refused.output
