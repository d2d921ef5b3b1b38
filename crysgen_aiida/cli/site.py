"""What a job asks of a cluster: wall time, memory, queue, account, and GPUs that are really there."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aiida import orm

#: AiiDA's option for each of ours.
_OPTIONS = {
    "walltime": "max_wallclock_seconds",
    "memory": "max_memory_kb",
    "queue": "queue_name",
    "account": "account",
}

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: kB (1024 bytes) in each unit of memory.
_MEMORY = {"MB": 1024, "GB": 1024**2, "TB": 1024**3}

#: A GPU in Slurm's list of generic resources, e.g. ``gpu:a100:4(S:0-1)``, with how many a node has.
_GRES = re.compile(r"^gpu(?::[^:()]+)?:(\d+)")


class WallTime(click.ParamType):
    """A duration: ``45m``, ``12h``, ``2d`` or ``HH:MM:SS``; seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        found = re.fullmatch(r"(\d+)([smhd])|(\d+):([0-5]\d):([0-5]\d)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write it as 45m, 12h, 2d or HH:MM:SS.", param, ctx)
        number, unit, hours, minutes, seconds = found.groups()
        return int(number) * _UNITS[unit] if unit else int(hours) * 3600 + int(minutes) * 60 + int(seconds)


class Memory(click.ParamType):
    """An amount of memory: ``500MB``, ``16GB``; kB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return kB of 1024 bytes, as AiiDA counts."""
        found = re.fullmatch(r"([1-9]\d*)\s*(MB|GB|TB)", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no amount of memory; write it as 500MB or 16GB.", param, ctx)
        return int(found[1]) * _MEMORY[found[2].upper()]


def site_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a queue; it gets those given as ``site``, in AiiDA's ``metadata.options``."""

    @click.option("--walltime", type=WallTime(), help="Limit of a job: 45m, 12h, 2d; one that reaches it is resumed.")
    @click.option("--memory", type=Memory(), help="Memory of a job: 500MB, 16GB.")
    @click.option("--queue", help="Queue or partition to submit to.")
    @click.option("--account", help="Account to charge.")
    @functools.wraps(function)
    def wrapped(*args: Any, **given: Any) -> Any:
        site = {option: given.pop(name) for name, option in _OPTIONS.items()}
        return function(*args, site={k: v for k, v in site.items() if v is not None}, **given)

    return wrapped


def require_gpus(code: orm.AbstractCode, gpus: int) -> None:
    """Ask Slurm on the code's computer whether a node has that many GPUs; others are not asked.

    Slurm would refuse such a job, and AiiDA would try again and again and then pause it.

    :raises click.ClickException: if no node has.
    """
    computer = code.computer
    if gpus == 0 or computer is None or computer.scheduler_type != "core.slurm":
        return
    try:
        with computer.get_transport() as transport:
            status, said, complaint = transport.exec_command_wait("sinfo --noheader --Node --format=%G")
    except Exception as error:  # whatever a transport raises: the job itself will say more
        status, said, complaint = 1, "", str(error)
    if status != 0:
        click.echo(
            f"note: whether {computer.label} has GPUs is not known: {complaint.strip() or 'no answer'}", err=True
        )
        return
    most = gpus_of(said)
    if most < gpus:
        has = f"has at most {most} a node" if most else "has no GPUs"
        raise click.ClickException(
            f"Slurm on {computer.label} {has}, {gpus} are asked for: ask for {'fewer' if most else 'none'} (leave out "
            "--gpus), or have them declared as GRES in its slurm.conf (`sinfo -o %G` lists them)."
        )


def gpus_of(listed: str) -> int:
    """Return the most GPUs a node has, from ``sinfo --format=%G``."""
    found = [
        sum(int(match[1]) for part in line.split(",") if (match := _GRES.match(part.strip())))
        for line in listed.splitlines()
    ]
    return max(found, default=0)
