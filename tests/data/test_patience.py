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


WRITER = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], timeout=30)
print("started", flush=True)
for n in range(150):
    held.execute("UPDATE db_dbuser SET first_name = ?", (str(n),))
    held.commit()
"""


def test_a_write_transaction_never_meets_a_stale_snapshot(aiida_profile, salts):
    """Reading before writing inside a transaction fails at once if another has written in between."""
    from aiida.manage import get_manager
    from aiida.orm import QueryBuilder, User

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.data.patience import write_transaction

    storage = get_manager().get_profile_storage()
    command = [sys.executable, "-c", WRITER, str(storage.filepath_database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline().strip() == "started"
        stored = []
        for n in range(15):
            with write_transaction(storage):
                assert QueryBuilder().append(User).count() == 1
                time.sleep(0.005)
                stored.append(CrystalSetData(salts.with_metadata(name=f"written {n}")).store())
        writer.terminate()
    assert all(CrystalSetData.get_or_create(node.table).uuid == node.uuid for node in stored)


def test_a_transaction_that_fails_leaves_nothing(aiida_profile, salts):
    from aiida.manage import get_manager
    from aiida.orm import QueryBuilder

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.data.patience import write_transaction

    before = QueryBuilder().append(CrystalSetData).count()

    def fail():
        with write_transaction(get_manager().get_profile_storage()):
            CrystalSetData(salts.with_metadata(name="never")).store()
            raise KeyError("on purpose")

    with pytest.raises(KeyError):
        fail()
    assert QueryBuilder().append(CrystalSetData).count() == before
