"""Known crystals in the jobs: fingerprints made once and used by a screening, and gates before a relaxation."""

from __future__ import annotations

import pytest

OPTIONS = {"metadata": {"options": {"device": "cpu"}}}


@pytest.fixture
def dataset(aiida_profile, salts):
    from crysgen_aiida.data.packed import CrystalSetData

    return CrystalSetData.get_or_create(salts)


def test_formulas_that_are_known_are_not_relaxed(run_job, dataset):
    from crysgen_aiida.calculations.verbs import RelaxCalculation

    parameters = {"relax": {"max_steps": 0}, "selection": {"new_formula": True, "charge_neutral": False}}
    node = run_job(RelaxCalculation, crystals=dataset, known={"mine": dataset}, parameters=parameters, **OPTIONS)
    assert node.is_finished_ok, node.exit_message
    relaxed = node.outputs.crystals.table
    assert set(relaxed.column("gate")) == {"new_formula"}
    assert all("the known set 'mine' has the formula" in reason for reason in relaxed.column("reason"))


def test_fingerprints_are_made_once_found_again_and_judged_by(run_job, dataset, salt_reference):
    pytest.importorskip("matminer", reason="matminer makes the fingerprints: pip install --no-deps matminer")
    from crysgen_aiida.calculations.verbs import FingerprintCalculation, ScreenCalculation
    from crysgen_aiida.cli.fingerprints import fingerprints_for, made_of, shipped_of

    made = run_job(FingerprintCalculation, crystals=dataset, **OPTIONS)
    assert made.is_finished_ok, made.exit_message
    table = made.outputs.table
    assert table.n_ok == dataset.n_ok
    assert made_of(dataset).uuid == table.uuid
    assert shipped_of(dataset) is None
    assert fingerprints_for({"mine": dataset}, (), needed=False) == {}
    assert fingerprints_for({"mine": dataset}, (), needed=True)["mine"].uuid == table.uuid
    relaxed = salt_reference.creator.inputs.crystals
    screened = run_job(
        ScreenCalculation,
        crystals=relaxed,
        reference=salt_reference,
        known={"mine": dataset},
        fingerprints={"mine": table},
        parameters={"protocol": "piezo-paper"},
        **OPTIONS,
    )
    assert screened.is_finished_ok, screened.exit_message
    judged = screened.outputs.table.table
    # they were relaxed from the known ones
    assert set(judged.column("stopped_by")) == {"new_formula"}
    assert (judged.values("dissimilarity") < 0.75).all()
    assert judged.column("dissimilar") == [False] * len(judged)
    assert "matminer" in screened.base.attributes.get("cache_version")["fingerprints"], "an upgrade is no stale hit"


def test_a_set_without_fingerprints_is_refused_with_the_remedy(dataset, aiida_profile):
    import click
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.cli.fingerprints import fingerprints_for
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    other = CrystalSetData.get_or_create(
        CrystalSet.from_structures([Structure(Lattice.cubic(4.1), ["Po"], [[0, 0, 0]])])
    )
    with pytest.raises(click.ClickException, match="crysgen dataset fingerprint"):
        fingerprints_for({"other": other}, (), needed=True)
