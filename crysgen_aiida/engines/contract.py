"""What an engine declares: which stages of a verification it can do, with which codes, giving which properties.

An engine registers an :class:`EngineInfo` under the entry-point group ``crysgen.engines``; its stages are work chains
that share the ports of :class:`~crysgen_aiida.engines.stage.EngineStage`. Nothing here imports a plug-in, so that an
engine whose package is missing can still be listed with the line that installs it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled

ENTRY_POINT_GROUP = "crysgen.engines"

#: Stages of a verification in their order, cheap ones first, with what each is for.
STAGES: dict[str, str] = {
    "relax": "atoms and cell at rest",
    "hull": "energy above the hull of a reference",
    "bands": "electronic bands and band gap",
    "dfpt": "dielectric tensors, Born charges, piezoelectric tensor, phonons at Gamma",
    "phonon": "phonons, and whether the crystal is at a minimum of its energy",
    "elastic": "elastic constants",
    "kappa": "lattice thermal conductivity",
    "transport": "Seebeck coefficient and power factor against doping",
}

#: Tensors a stage may put into its ``tensors`` node: name to shape (n atoms) and unit. Voigt order is xx yy zz yz xz
#: xy, axes are the cartesian ones of the stage's input structure, signs are those of the IEEE standard of 1987: e > 0
#: is a polarisation along +x under tension, stresses and elastic constants are positive when strain costs energy.
TENSORS: dict[str, tuple[tuple[int | str, ...], str]] = {
    "dielectric_electronic": ((3, 3), "1"),
    "dielectric_total": ((3, 3), "1"),
    "born_charges": (("n", 3, 3), "e"),  # [atom, direction of the field, direction of the displacement]
    "piezo_electronic": ((3, 6), "C/m^2"),  # proper, clamped ions
    "piezo_total": ((3, 6), "C/m^2"),  # proper, ions relaxed
    "elastic_clamped": ((6, 6), "GPa"),
    "elastic_relaxed": ((6, 6), "GPa"),  # short-circuit: constant electric field
    "gamma_frequencies": (("m",), "THz"),  # at Gamma without longitudinal shift, acoustic ones included; < 0 imaginary
}


@dataclass(frozen=True)
class StageInfo:
    """What an engine offers for one stage.

    :param work_chain: entry point of the work chain, in ``aiida.workflows``.
    :param codes: roles of the codes it runs, e.g. ``pw``.
    :param gives: registered properties it computes.
    :param note: a limit a user should know, as a sentence.
    """

    work_chain: str
    codes: tuple[str, ...]
    gives: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class EngineInfo:
    """What is known of an engine without its package.

    :param stages: stage to what it offers; stages it does not name it cannot do.
    :param modules: importable modules it needs on the machine that submits.
    :param install: the line that installs them.
    :param plugins: role of a code to its calculation plug-in.
    :param executables: role of a code to the name of its executable.
    :param pseudopotentials: format of its pseudopotentials: ``upf``, ``potcar`` or empty for none.
    :param batched: whether its stages are jobs of the worker on a whole set of crystals instead of chains of
        :class:`~crysgen_aiida.engines.stage.EngineStage` on one.
    """

    name: str
    summary: str
    stages: Mapping[str, StageInfo]
    modules: tuple[str, ...] = ()
    install: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)
    executables: Mapping[str, str] = field(default_factory=dict)
    pseudopotentials: str = ""
    batched: bool = False
    citation: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.stages) - set(STAGES))
        if unknown:
            raise ImpossibleRequest(f"The engine {self.name} names unknown stages: {', '.join(unknown)}.")

    @property
    def installed(self) -> bool:
        """Whether the packages it needs can be found here."""
        return all(find_spec(module) is not None for module in self.modules)

    def stage(self, name: str) -> StageInfo:
        """Return what it offers for a stage.

        :raises ImpossibleRequest: if it cannot do that stage; the message says what it can.
        """
        if name not in self.stages:
            raise ImpossibleRequest(f"The engine {self.name} has no stage {name!r}; it has {', '.join(self.stages)}.")
        return self.stages[name]


def engine_names() -> list[str]:
    """Return the names of the registered engines."""
    return sorted({e.name for e in entry_points(group=ENTRY_POINT_GROUP)})


def get_engine(name: str) -> EngineInfo:
    """Return the info of a registered engine.

    :raises NotInstalled: if no distribution provides it; the message suggests close names.
    """
    found = [e for e in entry_points(group=ENTRY_POINT_GROUP) if e.name == name]
    if not found:
        names = engine_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(names) or 'none'}."
        raise NotInstalled(f"No engine {name!r} is registered here. {hint}")
    info = found[0].load()
    if not isinstance(info, EngineInfo):
        raise NotInstalled(f"The entry point {name!r} in {ENTRY_POINT_GROUP!r} is not an EngineInfo; fix that package.")
    return info
