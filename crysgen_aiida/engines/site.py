"""Sites: where engines run and with what resources, as YAML. Nothing here changes a result: physics is in protocols.

A site is a file ``crysgen/sites/NAME.yaml`` in the AiiDA configuration folder, or any file by its path::

    description: The big machine
    options: {resources: {num_machines: 1}, max_wallclock_seconds: 3600, queue_name: normal, account: s123}
    engines:
      qe:
        pseudo_family: PseudoDojo/0.4/PBE/SR/standard
        codes: {pw: pw@big, ph: ph@big}
        options: {withmpi: true, prepend_text: "module load espresso"}
        stages:
          dfpt: {options: {max_wallclock_seconds: 86400}}

Options are those of AiiDA's ``metadata.options``; the more special ones win: stage, engine, site. Without a file the
site is this machine, with the codes that ``crysgen engine setup`` makes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from crysgen_aiida.crystals.errors import BadInput, NotInstalled
from crysgen_aiida.engines.contract import STAGES, engine_names, get_engine
from crysgen_aiida.engines.local import COMPUTER, code_label, ensure_codes, find_code
from crysgen_aiida.generators.contract import deep_merge

if TYPE_CHECKING:
    from aiida import orm

LOCAL = "local"
#: One process without MPI and one thread: several jobs share a laptop, and small cells gain little from more.
LOCAL_OPTIONS: dict[str, Any] = {
    "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
    "withmpi": False,
    "environment_variables": {"OMP_NUM_THREADS": "1"},
}

_TOP = ("description", "codes", "options", "pseudo_family", "engines")
_ENGINE = ("codes", "options", "pseudo_family", "stages")
_STAGE = ("codes", "options")
#: Options of AiiDA that belong to a plug-in, not to a site.
_NOT_OF_A_SITE = ("input_filename", "output_filename", "parser_name", "stash", "unstash")
#: Further options of jobs of our own worker.
_WORKER_OPTIONS = ("gpus", "gpu_slots", "threads", "device", "batch_scale")


@dataclass(frozen=True)
class Site:
    """Codes, options and pseudopotentials of a place where engines run.

    :param held: what its file says, checked.
    """

    name: str
    held: Mapping[str, Any] = field(default_factory=dict)

    def codes(self, engine: str, stage: str) -> dict[str, orm.AbstractCode]:
        """Return the codes a stage needs, by role.

        :raises NotInstalled: if one is not in the profile; the message says how to make it.
        """
        info = get_engine(engine)
        labels: dict[str, str] = {}
        for level in self._levels(engine, stage):
            labels.update(level.get("codes", {}))
        return {role: self._code(info.name, role, labels.get(role)) for role in info.stage(stage).codes}

    def options(self, engine: str, stage: str) -> dict[str, Any]:
        """Return ``metadata.options`` for the jobs of a stage."""
        merged: dict[str, Any] = dict(LOCAL_OPTIONS) if self.name == LOCAL else {}
        if get_engine(engine).batched:
            merged.pop("environment_variables", None)  # the worker sees to its threads itself
        for level in self._levels(engine, stage):
            merged = deep_merge(merged, level.get("options", {}))
        return merged

    def pseudo_family(self, engine: str) -> str | None:
        """Return the label of the family of pseudopotentials for an engine, None if it needs none.

        Where the site names none it is the largest family of the profile of that engine's kind.

        :raises NotInstalled: if the engine needs a family and the profile has none.
        """
        from crysgen_aiida.engines.pseudos import families

        kind = get_engine(engine).pseudopotentials
        named = self._engine(engine).get("pseudo_family") or self.held.get("pseudo_family")
        if named or not kind:
            return str(named) if named else None
        if kind != "upf":
            raise NotInstalled(
                f"The site {self.name} names no pseudo_family for {engine}; write `pseudo_family: LABEL` under "
                f"`engines: {engine}:` in its file."
            )
        held = families(kind)
        if not held:
            raise NotInstalled(
                f"The profile has no pseudopotentials for {engine}; run `crysgen engine setup {engine} --pseudos "
                "FOLDER` with a folder of UPF files (docs/how-to/dft.md says where to get one)."
            )
        return str(held[0].label)

    def _engine(self, engine: str) -> Mapping[str, Any]:
        return self.held.get("engines", {}).get(engine) or {}

    def _levels(self, engine: str, stage: str) -> list[Mapping[str, Any]]:
        special = self._engine(engine)
        return [self.held, special, (special.get("stages") or {}).get(stage) or {}]

    def _code(self, engine: str, role: str, label: str | None) -> orm.AbstractCode:
        info = get_engine(engine)
        executable = info.executables.get(role, role)
        wanted = label or f"{code_label(executable)}@{COMPUTER}"
        code = find_code(wanted)
        if code is not None:
            return code
        name, _, computer = wanted.partition("@")
        if label is None:
            remedy = f"run `crysgen engine setup {engine}`, or name a code for it in the site's file"
        else:
            plugin = info.plugins.get(role, "PLUGIN")
            remedy = (
                f"make it with `verdi code create core.code.installed --label {name} --computer "
                f"{computer or 'COMPUTER'} --default-calc-job-plugin {plugin} --filepath-executable "
                f"/path/to/{executable}`"
            )
        raise NotInstalled(
            f"The site {self.name} runs the role {role!r} of {engine} with the code {wanted}, which this profile "
            f"lacks; {remedy}."
        )


def sites_folder() -> Path:
    """Return the folder that holds the sites of this AiiDA configuration."""
    from aiida.manage.configuration import get_config

    return Path(get_config().dirpath) / "crysgen" / "sites"


def load_site(name_or_path: str | Path | None = None) -> Site:
    """Return a site by its name or the path of its file; without either, this machine.

    :raises NotInstalled: if there is no such file; the message names those there are.
    :raises BadInput: if the file is not valid; the message says where and what was meant.
    """
    if name_or_path is None or str(name_or_path) == LOCAL:
        return Site(LOCAL)
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = sites_folder() / f"{name_or_path}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in sites_folder().glob("*.yaml"))) or "none"
        raise NotInstalled(
            f"There is no site {name_or_path} ({path}); there are {there}, and {LOCAL} for this machine."
        )
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    check_site(held, str(path))
    return Site(path.stem, held)


def local_site(engines: Iterable[str]) -> Site:
    """Return this machine as a site, with codes made for the executables of these engines that are on PATH.

    :raises NotInstalled: if an executable is missing.
    """
    for engine in engines:
        ensure_codes(get_engine(engine))
    return Site(LOCAL)


def check_site(held: Any, where: str) -> None:
    """Check what a site's file says.

    :raises BadInput: at the first thing that is wrong, as a sentence with what was probably meant.
    """
    _known(held, _TOP, where)
    _options(held.get("options"), f"{where}: options")
    _labels(held.get("codes"), f"{where}: codes", None)
    engines = _mapping(held.get("engines"), f"{where}: engines")
    _known(engines, engine_names(), f"{where}: engines")
    for engine, special in engines.items():
        here = f"{where}: engines: {engine}"
        _known(special, _ENGINE, here)
        info = get_engine(engine)
        roles, worker = tuple(info.executables), "crysgen-worker" in info.executables.values()
        _options(special.get("options"), f"{here}: options", worker)
        _labels(special.get("codes"), f"{here}: codes", roles)
        stages = _mapping(special.get("stages"), f"{here}: stages")
        _known(stages, tuple(STAGES), f"{here}: stages")
        for stage, own in stages.items():
            _known(own, _STAGE, f"{here}: stages: {stage}")
            _options(own.get("options"), f"{here}: stages: {stage}: options", worker)
            _labels(own.get("codes"), f"{here}: stages: {stage}: codes", roles)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} must be a mapping of names to values, not {type(value).__name__}.")
    return value


def _known(value: Any, known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in _mapping(value, where):
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(names) or 'none'}."
            raise BadInput(f"{where} has no key {key!r}. {hint}")


def _options(value: Any, where: str, worker: bool = False) -> None:
    _known(value, _option_names(worker), where)
    resources = _mapping(value, where).get("resources")
    if resources is not None:
        _mapping(resources, f"{where}: resources")


def _labels(value: Any, where: str, roles: tuple[str, ...] | None) -> None:
    held = _mapping(value, where)
    if roles is not None:
        _known(held, roles, where)
    for role, label in held.items():
        if not isinstance(label, str) or not label:
            raise BadInput(f"{where}: {role} must be the label of a code, like pw@cluster.")


@cache
def _option_names(worker: bool) -> tuple[str, ...]:
    from aiida.engine import CalcJob

    ports: Any = CalcJob.spec().inputs["metadata"]
    names = [name for name in ports["options"] if name not in _NOT_OF_A_SITE]
    return (*names, *_WORKER_OPTIONS) if worker else tuple(names)
