"""Results that change must change a version, or caches serve the old ones as if nothing had happened.

If one fails because results are meant to differ now: raise ``CACHE_VERSION`` of the verb (or the generator's version),
then run with ``--force-regen``.
"""

from __future__ import annotations

import pytest

from crysgen_aiida.generators.contract import get_generator

CPU = {"metadata": {"options": {"device": "cpu"}}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rock_salt():
    """NaCl at its minimum with CHGNet."""
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet

    x = 2.84811972
    cell = Structure(Lattice([[0, x, x], [x, 0, x], [x, x, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return CrystalSet.from_structures([cell])


@pytest.fixture(scope="module")
def jobs(aiida_profile, salts, salt_reference, rock_salt):
    """One finished job a verb, each working on what the one before it made."""
    from aiida.engine import run_get_node
    from aiida_fixtures import make_code, make_computer

    from crysgen_aiida.calculations.verbs import BY_VERB
    from crysgen_aiida.data.packed import CrystalSetData

    code = make_code(make_computer("localhost", "core.direct"))
    mattergpt = {"generator_name": "mattergpt", "preset": "test"}
    one_step = {"training": {"max_steps": 1}}

    def run(verb, **inputs):
        node = run_get_node(BY_VERB[verb], code=code, **CPU, **inputs)[1]
        assert node.is_finished_ok, node.exit_message
        return node

    made = {"prepare": run("prepare", crystals=CrystalSetData.get_or_create(salts), **mattergpt)}
    training_set = made["prepare"].outputs.training_set
    made["train"] = run("train", training_set=training_set, seed=1, spec=one_step, **mattergpt)
    made["sample"] = run("sample", generator=made["train"].outputs.generator, parameters={"n": 3}, seed=1)
    made["decode"] = run("decode", sequences=training_set, generator_name="mattergpt")
    made["reference"] = salt_reference.creator
    made["relax"] = salt_reference.creator.inputs.crystals.creator
    relaxed = salt_reference.creator.inputs.crystals
    at_rest = CrystalSetData.get_or_create(rock_salt)
    made["phonon"] = run("phonon", crystals=at_rest, parameters={"phonon": {"min_length": 5.0, "mesh_length": 20.0}})
    made["elastic"] = run("elastic", crystals=at_rest)
    made["screen"] = run("screen", crystals=relaxed, reference=salt_reference, parameters={"protocol": "mattergen"})
    return made


def numbers(table, *columns):
    """Return columns by row number as text, so that a difference is shown by its place."""
    return {
        f"{column}[{i}]": value
        for column in columns
        for i, value in enumerate(table.column(column))
        if value is not None
    }


def test_versions_and_text(jobs, data_regression):
    """Strings, verdicts and reasons, to the letter."""
    screened = jobs["screen"].outputs.table.table
    verdicts = [name for name in screened.columns if screened.arrow.schema.field(name).type == "bool"]
    data_regression.check(
        {
            "cache_versions": {verb: node.process_class.CACHE_VERSION for verb, node in sorted(jobs.items())},
            "generator_version": get_generator("mattergpt").version,
            "training_set": [
                [r["sequence"], r["split"], r["parent_row"]] for r in jobs["prepare"].outputs.training_set.table.iter()
            ],
            "sampled": jobs["sample"].outputs.sequences.table.column("sequence"),
            "decoded": jobs["decode"].outputs.crystals.table.column("status"),
            "verdicts": {name: screened.column(name) for name in verdicts},
        }
    )


def test_learning(jobs, num_regression):
    """The loss on the validation rows before and after one step; processors differ in the last digits only."""
    history = jobs["train"].outputs.generator.history()
    losses = {f"val_loss[{i}]": line["val_loss"] for i, line in enumerate(history) if line.get("val_loss") is not None}
    assert losses
    num_regression.check(losses, default_tolerance={"rtol": 1e-3})


def test_geometry(jobs, num_regression):
    """Volumes of decoded and of relaxed crystals."""
    decoded, relaxed = jobs["decode"].outputs.crystals.table, jobs["relax"].outputs.crystals.table
    volumes = {
        f"{name}[{row}]": crystals.structure(row).volume
        for name, crystals in (("decoded", decoded), ("relaxed", relaxed))
        for row in range(len(crystals))
    }
    num_regression.check(volumes, default_tolerance={"rtol": 1e-4})


def test_energies(jobs, num_regression):
    """Potential energies, reference energies and the distance between them, in eV/atom."""
    held = {
        **numbers(jobs["relax"].outputs.crystals.table, "energy_per_atom"),
        **{
            f"reference.{k}": v
            for k, v in numbers(jobs["reference"].outputs.reference.table, "energy_per_atom").items()
        },
        **numbers(jobs["screen"].outputs.table.table, "e_above_reference"),
    }
    num_regression.check(held, default_tolerance={"atol": 1e-4, "rtol": 0})


def test_second_derivatives(jobs, num_regression):
    """Phonons in THz and elastic constants in GPa of rock salt."""
    phonons, elastic = jobs["phonon"].outputs.table.table, jobs["elastic"].outputs.table.table
    held = {
        **numbers(phonons, "phonon_min_frequency", "phonon_max_frequency", "heat_capacity_300k"),
        **numbers(elastic, "bulk_modulus_vrh", "shear_modulus_vrh"),
    }
    assert len(held) == 5
    num_regression.check(held, default_tolerance={"rtol": 0.02})
