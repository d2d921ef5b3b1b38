"""Families of pseudopotentials from a folder, with cutoffs whose source is stated."""

from __future__ import annotations

import pytest

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest, NotInstalled
from crysgen_aiida.engines import pseudos


def test_cutoffs_are_those_of_the_table_and_the_largest_counts(made_up_family):
    assert pseudos.recommended_cutoffs(made_up_family, ["Al"]) == (40.0, 160.0)
    assert pseudos.recommended_cutoffs(made_up_family, ["Al", "N"]) == (84.0, 336.0)


def test_the_table_covers_what_pseudodojo_covers():
    table = pseudos.cutoff_tables()[pseudos.DEFAULT_TABLE]
    assert len(table) == 72
    assert all(15 <= cut <= 60 for cut in table.values())


def test_missing_elements_are_named(made_up_family):
    assert pseudos.covers(made_up_family, ["Al", "N"])
    assert not pseudos.covers(made_up_family, ["Al", "Zn", "S"])
    assert pseudos.why_not_covered(made_up_family, ["Zn", "S", "N"]) == (
        "the family made-up has no pseudopotential for S, Zn"
    )


def test_a_family_is_kept_if_its_files_are_the_same(made_up_family, tmp_path):
    for element, node in made_up_family.pseudos.items():
        (tmp_path / f"{element}.upf").write_text(node.get_content())
    assert pseudos.install_family(tmp_path, "made-up") == (made_up_family, False)
    (tmp_path / "Si.upf").unlink()
    with pytest.raises(BadInput, match="of other files"):
        pseudos.install_family(tmp_path, "made-up")


def test_bad_folders_and_tables_are_refused(aiida_profile, tmp_path):
    with pytest.raises(BadInput, match="holds no UPF files"):
        pseudos.install_family(tmp_path, "empty")
    with pytest.raises(ImpossibleRequest, match="no table of cutoffs 'soft'"):
        pseudos.install_family(tmp_path, "empty", table="soft")
    with pytest.raises(NotInstalled, match="no family of pseudopotentials 'lost'"):
        pseudos.load_family("lost")


def test_the_functional_is_read_from_the_file(made_up_family):
    assert pseudos.functional(made_up_family.get_pseudo("Si")) == "pbe"
