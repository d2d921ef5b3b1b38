"""Codes on this machine for the executables on its PATH, so that a laptop needs no description of a site."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crysgen_aiida.crystals.errors import NotInstalled

if TYPE_CHECKING:
    from aiida import orm

    from crysgen_aiida.engines.contract import EngineInfo

COMPUTER = "localhost"


def code_label(executable: str) -> str:
    """Return the label of a code for an executable: ``pw`` for ``pw.x``."""
    return executable.removesuffix(".x")


def find_executable(name: str) -> str | None:
    """Return the path of an executable on PATH or beside the running Python, None if it is not there."""
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=own)


def find_code(label: str) -> orm.AbstractCode | None:
    """Return the code of that full label (``pw@localhost``), None if there is none."""
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    try:
        return orm.load_code(label)
    except (NotExistent, ValueError):
        return None


def ensure_computer(label: str = COMPUTER, *, workdir: str | None = None) -> tuple[orm.Computer, bool]:
    """Return the computer that is this machine, and whether it was made now.

    :param workdir: where jobs run; by default a folder in the AiiDA configuration folder.
    """
    from aiida import orm
    from aiida.common.exceptions import NotExistent
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config

    try:
        computer, made = orm.load_computer(label), False
    except NotExistent:
        profile = get_manager().get_profile()
        assert profile is not None
        computer = orm.Computer(
            label=label,
            hostname="localhost",
            description="This machine",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=workdir or f"{get_config().dirpath}/scratch/{profile.name}",
        ).store()
        computer.set_minimum_job_poll_interval(1)
        computer.set_default_mpiprocs_per_machine(1)
        made = True
    if not computer.is_configured:
        # a login shell would reset PATH, and the worker lives in this environment
        computer.configure(safe_interval=0, use_login_shell=False)
        made = True
    return computer, made


def ensure_codes(info: EngineInfo) -> tuple[list[str], list[str]]:
    """Make the codes of an engine whose executables are found here, and return the labels made and those kept.

    A code whose executable is gone makes way for a new one if there is another on PATH.

    :raises NotInstalled: if an executable is missing; those that are there have been made by then.
    """
    from aiida import orm

    made, kept, absent = [], [], []
    computer, _ = ensure_computer()
    for role, executable in info.executables.items():
        label = code_label(executable)
        full = f"{label}@{computer.label}"
        path, held = find_executable(executable), find_code(full)
        if held is not None and (path is None or os.access(str(held.filepath_executable), os.X_OK)):
            kept.append(full)
            continue
        if path is None:
            absent.append(executable)
            continue
        if held is not None:  # its program is gone: kept for the graph under another name
            held.label, held.is_hidden = f"{label}-{held.uuid[:8]}", True
        orm.InstalledCode(
            computer=computer,
            filepath_executable=path,
            label=label,
            default_calc_job_plugin=info.plugins.get(role),
            with_mpi=False,
        ).store()
        made.append(full)
    if absent:
        raise NotInstalled(
            f"{', '.join(absent)} of {info.name} is not on PATH; install it, or name codes on another computer in a "
            "site (docs/how-to/dft.md)."
        )
    return made, kept
