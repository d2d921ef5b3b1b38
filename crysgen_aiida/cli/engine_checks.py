"""What an engine needs and whether it is here: one finding each, with the line that repairs it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import TYPE_CHECKING, Any

from crysgen_aiida.cli.doctor import FAIL, NOTE, OK, WARN, Finding
from crysgen_aiida.engines.local import COMPUTER, code_label, find_executable

if TYPE_CHECKING:
    from crysgen_aiida.engines.contract import EngineInfo

#: Seconds an executable may take to say its version: MPI is slow to start.
PATIENCE = 20
_VERSION = re.compile(r"\bv\.?\s?(\d[\w.]*)|\b(\d+\.\d+[\w.]*)")
#: Executables that say their version when started in vain, as against with --version.
_BANNER = (".x",)


def examine(info: EngineInfo) -> Iterator[Finding]:
    """Yield the findings for one engine; what needs a profile needs it loaded."""
    yield _packages(info)
    for role, executable in info.executables.items():
        yield _code(info, role, executable)
    if info.pseudopotentials == "upf":
        yield _pseudos(info)


def _packages(info: EngineInfo) -> Finding:
    if not info.installed:
        return Finding("packages", FAIL, f"{', '.join(info.modules)} not all found", f"run `{info.install}`")
    owners = packages_distributions()
    named = []
    for module in info.modules:
        for distribution in owners.get(module, [])[:1]:
            try:
                named.append(f"{distribution} {version(distribution)}")
            except PackageNotFoundError:
                named.append(distribution)
    return Finding("packages", OK, ", ".join(named) or "none needed")


def _code(info: EngineInfo, role: str, executable: str) -> Finding:
    from aiida import orm

    label = code_label(executable)
    plugin = info.plugins.get(role)
    held = orm.QueryBuilder().append(orm.AbstractCode, filters={"label": label}).all(flat=True)
    if plugin:
        query = orm.QueryBuilder().append(orm.AbstractCode, filters={"attributes.input_plugin": plugin})
        held += [code for code in query.all(flat=True) if code.pk not in {c.pk for c in held}]
    codes = [code for code in held if not code.is_hidden]
    if not codes:
        there = find_executable(executable)
        if there is None:
            fix = f"run `{info.install}`, then `crysgen engine setup {info.name}`, or name a code in a site"
            return Finding(role, FAIL, f"no code, and {executable} is not on PATH", fix)
        return Finding(role, FAIL, f"no code for {there}", f"run `crysgen engine setup {info.name}`")
    where = ", ".join(code.full_label for code in codes)
    local = [code for code in codes if code.computer is not None and code.computer.label == COMPUTER]
    if not local:
        return Finding(role, OK, f"{where}; not on this machine, not started")
    path = str(local[0].filepath_executable)
    said = executable_version(path)
    if said is None:
        return Finding(role, FAIL, f"{where}; {path} does not start", f"reinstall it: `{info.install}`")
    return Finding(role, OK, f"{where}; {said}")


def executable_version(path: str) -> str | None:
    """Return what an executable on this machine says of its version, ``no version told``, or None if it won't start."""
    name = path.rsplit("/", 1)[-1]
    arguments = ["-h"] if name.endswith(_BANNER) else ["--version"]
    with tempfile.TemporaryDirectory() as folder:  # some leave files where they are started
        try:
            done = subprocess.run(
                [path, *arguments],
                input="",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                check=False,
                cwd=folder,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    found = _VERSION.search(done.stdout) or _VERSION.search(done.stderr)
    return next(part for part in found.groups() if part) if found else "no version told"


def _pseudos(info: EngineInfo) -> Finding:
    from crysgen_aiida.engines.pseudos import families

    held = families("upf")
    if not held:
        fix = f"run `crysgen engine setup {info.name} --pseudos FOLDER`; docs/how-to/dft.md says where to get one"
        return Finding("pseudopotentials", FAIL, "no family of UPF files in this profile", fix)
    bare = [family for family in held if not _has_cutoffs(family)]
    named = ", ".join(f"{family.label} ({family.count()} elements)" for family in held)
    if len(bare) == len(held):
        fix = "set them with `aiida-pseudo family cutoffs set`, or make a family with `crysgen engine setup`"
        return Finding("pseudopotentials", WARN, f"{named}; none recommends cutoffs", fix)
    return Finding("pseudopotentials", NOTE if bare else OK, named)


def _has_cutoffs(family: Any) -> bool:
    try:
        return bool(family.get_cutoff_stringencies())
    except AttributeError:
        return False
