"""Sites: where engines run, apart from physics; every mistake in a file is a sentence."""

from __future__ import annotations

import pytest
import yaml

from crysgen_aiida.crystals.errors import BadInput, NotInstalled
from crysgen_aiida.engines.local import code_label, find_executable
from crysgen_aiida.engines.site import LOCAL_OPTIONS, load_site, sites_folder

BIG = {
    "options": {"resources": {"num_machines": 1}, "max_wallclock_seconds": 3600, "account": "s1"},
    "engines": {
        "qe": {
            "pseudo_family": "PD",
            "codes": {"pw": "pw@big"},
            "options": {"withmpi": True, "resources": {"num_mpiprocs_per_machine": 16}},
            "stages": {"dfpt": {"options": {"max_wallclock_seconds": 86400}}},
        }
    },
}


def _write(folder, held):
    path = folder / "big.yaml"
    path.write_text(yaml.safe_dump(held))
    return path


def test_options_of_a_stage_win_over_those_of_the_engine_and_the_site(aiida_profile, tmp_path):
    site = load_site(_write(tmp_path, BIG))
    assert site.options("qe", "relax") == {
        "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 16},
        "max_wallclock_seconds": 3600,
        "account": "s1",
        "withmpi": True,
    }
    assert site.options("qe", "dfpt")["max_wallclock_seconds"] == 86400
    assert site.pseudo_family("qe") == "PD"


def test_a_site_is_found_by_its_name(aiida_profile):
    sites_folder().mkdir(parents=True, exist_ok=True)
    _write(sites_folder(), BIG)
    assert load_site("big").name == "big"
    with pytest.raises(NotInstalled, match=r"no site small .* there are big"):
        load_site("small")


def test_a_code_that_is_missing_comes_with_the_command_that_makes_it(aiida_profile, tmp_path):
    with pytest.raises(NotInstalled, match=r"verdi code create core.code.installed --label pw --computer big"):
        load_site(_write(tmp_path, BIG)).codes("qe", "relax")


def test_this_machine_needs_no_file(aiida_profile):
    assert load_site().options("qe", "relax") == LOCAL_OPTIONS
    assert load_site("local") == load_site()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"optoins": {}}, "has no key 'optoins'. Did you mean 'options'"),
        ({"options": {"queue": "x"}}, "has no key 'queue'. Did you mean 'queue_name'"),
        ({"options": {"parser_name": "x"}}, "has no key 'parser_name'"),
        ({"engines": {"qee": {}}}, "Did you mean 'qe'"),
        ({"engines": {"qe": {"codes": {"pww": "x@y"}}}}, "Did you mean 'pw'"),
        ({"engines": {"qe": {"codes": {"pw": 3}}}}, "pw must be the label of a code"),
        ({"engines": {"qe": {"stages": {"relaxx": {}}}}}, "Did you mean 'relax'"),
        ({"engines": {"qe": {"options": {"gpus": 1}}}}, "has no key 'gpus'"),
        ([1], "must be a mapping"),
    ],
)
def test_mistakes_in_a_file_are_named(aiida_profile, tmp_path, held, said):
    with pytest.raises(BadInput, match=said):
        load_site(_write(tmp_path, held))


def test_text_that_is_no_yaml_is_refused(aiida_profile, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("options: {a: [")
    with pytest.raises(BadInput, match="is not YAML"):
        load_site(path)


def test_executables_and_labels():
    assert code_label("pw.x") == "pw"
    assert code_label("abinit") == "abinit"
    assert find_executable("python") is not None
    assert find_executable("no-such-program-here") is None
