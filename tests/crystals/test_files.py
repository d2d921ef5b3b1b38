"""Writing is atomic, and a full disk is said in a sentence: a real limit, not a mock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from crystal_strategies import rocksalt

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.files import atomic_path, write_text

# in a process of its own: the limit on file sizes cannot be raised again
_FULL_DISK = """
import resource, sys
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import DiskFull
from crysgen_aiida.crystals.writers import write_crystals
crystals = CrystalSet.read(sys.argv[1])
crystals = CrystalSet.concat([crystals] * 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
for name in ("set.parquet", "set.cif"):
    try:
        write_crystals(crystals, sys.argv[2] + "/" + name)
    except DiskFull as error:
        print(error)
"""


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source.parquet", tmp_path / "target"
    target.mkdir()
    CrystalSet.from_structures([rocksalt()]).write(source)
    (target / "set.cif").write_text("old")
    command = [sys.executable, "-c", _FULL_DISK, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.strip().splitlines()
    assert len(said) == 2, done.stdout + done.stderr
    assert all("free some space" in line for line in said)
    assert (target / "set.cif").read_text() == "old"
    assert [p.name for p in target.iterdir()] == ["set.cif"]


def test_a_crash_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def half(path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise Killed

    with pytest.raises(Killed):
        half(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_is_whole_and_readable_by_all(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "é")
    write_text(tmp_path / "x", "whole")
    assert (tmp_path / "x").read_text() == "whole"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "x", "text")
