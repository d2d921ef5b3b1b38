"""Another writer that holds the database longer than AiiDA waits costs time, not results."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
held.execute("COMMIT")
"""


@pytest.mark.slow
def test_a_node_is_stored_although_the_database_is_locked_for_seven_seconds(aiida_profile, salts):
    from aiida.manage import get_manager

    from crysgen_aiida.data.packed import CrystalSetData

    database = get_manager().get_profile_storage().filepath_database
    node = CrystalSetData(salts.with_metadata(name="patient"))
    command = [sys.executable, "-c", SCRIPT, str(database), "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline().strip() == "locked"
        impatient = sqlite3.connect(database, timeout=0.2)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            impatient.execute("BEGIN IMMEDIATE")
        impatient.close()
        began = time.monotonic()
        node.store()
        assert time.monotonic() - began > 5.0
    assert node.is_stored
    assert CrystalSetData.get_or_create(salts.with_metadata(name="patient")).uuid == node.uuid
