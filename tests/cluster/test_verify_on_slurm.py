"""Candidates verified through Slurm, by a potential and by Quantum ESPRESSO: the values that no scheduler gives."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_computers import LOCAL, SSH, crysgen

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

PLACES = ("localhost", LOCAL, SSH)
BY_POTENTIAL = ["--stages", "relax,phonon", "--set", "phonon.min_length=7", "--set", "phonon.mesh_length=20"]
#: Settings under which silicon takes seconds; what comes out is no silicon anybody knows.
BY_DFT = [
    "--stages", "relax", "--engine", "relax=qe", "--protocol", "fast", "--set", "relax.ecutwfc=12",
    "--set", "relax.kpoints_distance=1.0", "--set", "relax.meta_convergence=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def silicon(daemon: str) -> str:
    """The address of a crystal of silicon."""
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    cell = Lattice([[0, 2.72, 2.72], [2.72, 0, 2.72], [2.72, 2.72, 0]])
    crystals = CrystalSet.from_structures([Structure(cell, ["Si"] * 2, [[0, 0, 0], [0.25] * 3])])
    return f"{CrystalSetData(crystals).store().uuid}:0"


def verified(daemon: str, address: str, site: Path, words: list[str]) -> Any:
    """Verify a crystal on a site as a user would, and return the process."""
    from aiida import orm
    from aiida_fixtures import wait_for

    told = crysgen(daemon, "verify", address, *words, "--site", str(site), "--no-wait", "--format", "json")
    process = orm.load_node(json.loads(told[told.index("[") : told.rindex("]") + 1])[0]["uuid"])
    wait_for([process], timeout=600)
    assert process.is_finished_ok, process.exit_message
    return process


def values_of(process: Any) -> dict[str, float]:
    """Return the values a verification found, by property."""
    rows = list(process.outputs.results.iter())
    assert all(row["verdict"] in (None, "passed") for row in rows), rows
    return {row["property"]: row["value"] for row in rows if row["property"] is not None}


def jobs_of(process: Any) -> set[str]:
    """Return the scheduler's numbers of the jobs below a process."""
    print(
        [
            (j.process_label, j.computer.label, j.get_job_id(), j.base.caching.is_created_from_cache)
            for j in process.called_descendants
            if hasattr(j, "get_job_id")
        ]
    )
    return {job.get_job_id() for job in process.called_descendants if hasattr(job, "get_job_id")}


def compare(daemon: str, cluster: Any, address: str, folder: Path, engine: Any, words: list[str]) -> dict[str, float]:
    """Verify on every place; all values must be the same, and the jobs on Slurm must have been Slurm's."""
    found = {}
    for place in PLACES:
        site = folder / f"{place}.yaml"
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "max_wallclock_seconds": 600}
        site.write_text(yaml.safe_dump({"options": options, "engines": engine(place)}))
        process = verified(daemon, address, site, words)
        found[place] = values_of(process)
        if place != "localhost":
            logged = (Path(cluster.folder) / "slurm" / "slurmctld.log").read_text()
            jobs = jobs_of(process)
            assert jobs
            assert [number for number in jobs if f"JobId={number} " not in logged] == []
    assert found[LOCAL] == found[SSH] == found["localhost"]
    return found[SSH]


def test_a_potential_gives_the_same_values(daemon, cluster, codes, silicon, tmp_path):
    def engine(place: str) -> dict[str, Any]:
        return {"potential": {"codes": {"worker": codes[place].full_label}, "options": {"device": "cpu"}}}

    found = compare(daemon, cluster, silicon, tmp_path, engine, BY_POTENTIAL)
    assert found["energy_per_atom"] < -5
    assert found["phonon_max_frequency"] > 10


def test_quantum_espresso_gives_the_same_values(daemon, cluster, computers, silicon, tmp_path):
    from aiida import orm

    from crysgen_aiida.engines.pseudos import install_family

    program, upf = shutil.which("pw.x"), os.environ.get("CRYSGEN_PSEUDOS", "")
    if program is None or not Path(upf).is_dir():
        pytest.skip("Quantum ESPRESSO or its pseudopotentials (CRYSGEN_PSEUDOS) are not there: see docs/how-to/dft.md.")
    family, _ = install_family(Path(upf), "on-slurm")
    for place in PLACES:
        computer = orm.load_computer(place)
        orm.InstalledCode(computer=computer, filepath_executable=program, label="pw-slurm").store()

    def engine(place: str) -> dict[str, Any]:
        options = {"withmpi": False, "environment_variables": {"OMP_NUM_THREADS": "1"}}
        return {"qe": {"codes": {"pw": f"pw-slurm@{place}"}, "options": options, "pseudo_family": family.label}}

    found = compare(daemon, cluster, silicon, tmp_path, engine, BY_DFT)
    assert found["max_force"] < 0.05
