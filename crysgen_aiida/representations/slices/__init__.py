"""SLICES: crystals as strings that spell their bonds, and back.

Names are loaded on first use, so that importing the package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crysgen_aiida.representations.slices.checker import Verdict, check, dimensionality
    from crysgen_aiida.representations.slices.decoder import Decoded, decode
    from crysgen_aiida.representations.slices.errors import SlicesError
    from crysgen_aiida.representations.slices.graphs import encode, net_of
    from crysgen_aiida.representations.slices.invariant import net_hash
    from crysgen_aiida.representations.slices.nets import Net, augment, augmented_strings, canonical, parse, to_string
    from crysgen_aiida.representations.slices.sets import decode_set, encode_set
    from crysgen_aiida.representations.slices.spec import SlicesSpec
    from crysgen_aiida.representations.slices.tokens import VOCABULARY, vocabulary

_HOME = {
    "Decoded": "decoder",
    "Net": "nets",
    "SlicesError": "errors",
    "SlicesSpec": "spec",
    "VOCABULARY": "tokens",
    "Verdict": "checker",
    "augment": "nets",
    "augmented_strings": "nets",
    "canonical": "nets",
    "check": "checker",
    "decode": "decoder",
    "decode_set": "sets",
    "dimensionality": "checker",
    "encode": "graphs",
    "encode_set": "sets",
    "net_hash": "invariant",
    "net_of": "graphs",
    "parse": "nets",
    "to_string": "nets",
    "vocabulary": "tokens",
}

__all__ = [
    "VOCABULARY",
    "Decoded",
    "Net",
    "SlicesError",
    "SlicesSpec",
    "Verdict",
    "augment",
    "augmented_strings",
    "canonical",
    "check",
    "decode",
    "decode_set",
    "dimensionality",
    "encode",
    "encode_set",
    "net_hash",
    "net_of",
    "parse",
    "to_string",
    "vocabulary",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
