"""The starter archive: it names nobody, comes in once, and brings its whole past."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_commands import run_in

from crysgen_aiida.cli.starter import archive_uuids, private_words, scan_archive, starter_file
from crysgen_aiida.crystals.errors import BadInput


@pytest.fixture
def archive() -> Path:
    """The archive that is shipped."""
    try:
        return starter_file()
    except BadInput as reason:
        pytest.skip(str(reason))


def test_private_words_in_an_archive_are_found(aiida_profile, tmp_path: Path) -> None:
    from aiida import orm
    from aiida.tools.archive import create_archive
    from aiida_fixtures import HOME, make_computer

    remote = orm.RemoteData(
        computer=make_computer("localhost", "core.direct"), remote_path=str(HOME / "secret")
    ).store()
    said = orm.SinglefileData.from_string("run by jane under /home/jane/work", "log.txt").store()
    path = create_archive([remote, said], filename=tmp_path / "leaky.aiida", overwrite=True, compression=0)
    found = scan_archive(path, [str(HOME / "secret")])
    assert any("secret" in line for line in found)
    assert any("/home/jane" in line for line in found)
    assert set(archive_uuids(path)) == {remote.uuid, said.uuid}
    harmless = create_archive([orm.Int(1).store()], filename=tmp_path / "fine.aiida", overwrite=True)
    assert not [line for line in scan_archive(harmless, ["secret"]) if "@" not in line]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.aiida"
    path.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(BadInput, match="not a whole AiiDA archive"):
        archive_uuids(path)


def test_the_shipped_archive_names_nobody_and_is_small(archive: Path) -> None:
    assert scan_archive(archive, private_words()) == []
    assert archive.stat().st_size < 15e6


@pytest.mark.slow
def test_the_shipped_archive_comes_in_once_with_its_past(archive: Path, home: Path) -> None:
    run_in(home, "crysgen", "setup")
    script = (
        "from aiida import load_profile, orm; load_profile('crysgen')\n"
        "from crysgen_aiida.cli.starter import import_starter\n"
        "from crysgen_aiida.store.candidates import creator_of\n"
        "from crysgen_aiida.store.support import training_set_of\n"
        "first = import_starter(); count = orm.QueryBuilder().append(orm.Node).count()\n"
        "second = import_starter(); again = orm.QueryBuilder().append(orm.Node).count()\n"
        "print(first.imported, second.imported, count == again, orm.QueryBuilder().append(orm.Group).count())\n"
        "jobs = orm.QueryBuilder().append(orm.CalcJobNode).all(flat=True)\n"
        "print(all('_aiida_hash' in j.base.extras.all for j in jobs), len(jobs))\n"
        "data = training_set_of(first.generator); prepared = creator_of(data)\n"
        "print(prepared.inputs.crystals.uuid == first.dataset.uuid, first.reference.metadata['scheme'])\n"
        "print(first.dataset.table.content_hash == first.dataset.content_hash, first.generator.n_parameters)\n"
    )
    lines = run_in(home, "python", "-c", script).strip().splitlines()[-4:]
    assert lines[0] == "True False True 0"
    assert lines[1].startswith("True ")
    assert int(lines[1].split()[1]) >= 4
    assert lines[2] == "True self-consistent"
    assert lines[3].startswith("True ")
