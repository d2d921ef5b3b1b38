"""Results that change must change a version, or caches serve the old ones as if nothing had happened.

If this fails because results are meant to differ now: raise ``CACHE_VERSION`` of the verb (or the generator's version),
then run with ``--force-regen``.
"""

from __future__ import annotations

from crysgen_aiida.generators.contract import get_generator


def test_the_training_set_of_the_salts(run_job, salts, data_regression):
    from crysgen_aiida.calculations.verbs import PrepareCalculation
    from crysgen_aiida.data.packed import CrystalSetData

    node = run_job(
        PrepareCalculation,
        crystals=CrystalSetData.get_or_create(salts),
        generator_name="mattergpt",
        preset="test",
        metadata={"options": {"device": "cpu"}},
    )
    table = node.outputs.training_set.table
    data_regression.check(
        {
            "cache_version": PrepareCalculation.CACHE_VERSION,
            "generator_version": get_generator("mattergpt").version,
            "rows": [[r["sequence"], r["split"], r["parent_row"]] for r in table.iter()],
        }
    )
