"""What a job asks of a cluster, as written on the command line."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from crysgen_aiida.cli.site import Memory, WallTime, gpus_of, site_options


@click.command()
@site_options
def command(site: dict[str, object]) -> None:
    click.echo(json.dumps(site))


def asked(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    held: dict[str, object] = json.loads(done.output)
    return held


def test_only_what_was_asked_for_is_handed_on():
    assert asked() == {}
    assert asked("--walltime", "12h", "--queue", "gpu") == {"max_wallclock_seconds": 43200, "queue_name": "gpu"}
    assert asked("--memory", "16GB", "--account", "p1") == {"max_memory_kb": 16 * 1024**2, "account": "p1"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2d", 172800), ("00:20:05", 1205), ("30:00:00", 108000)]
)
def test_durations(text, seconds):
    assert WallTime().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "12", "1:00", "12 hours", "00:99:00", "-5m", "1.5h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(click.BadParameter, match="write it as 45m"):
        WallTime().convert(text, None, None)


@pytest.mark.parametrize(("text", "kb"), [("500MB", 512_000), ("2 gb", 2 * 1024**2), ("1TB", 1024**3)])
def test_amounts_of_memory(text, kb):
    assert Memory().convert(text, None, None) == kb


@pytest.mark.parametrize("text", ["", "0GB", "16", "1e3MB", "5kB"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(click.BadParameter, match="write it as 500MB"):
        Memory().convert(text, None, None)


@pytest.mark.parametrize(
    ("listed", "most"),
    [
        ("(null)\n", 0),
        ("", 0),
        ("gpu:4\n", 4),
        ("(null)\ngpu:a100:4(S:0-1)\ngpu:2\n", 4),
        ("gpu:a100:2(S:0,2),gpu:v100:1,mps:400\n", 3),
        ("gpus:7,xgpu:9\n", 0),
    ],
)
def test_the_most_gpus_of_a_node(listed, most):
    assert gpus_of(listed) == most
