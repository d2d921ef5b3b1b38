"""FTCP: crystals as matrices of real-space and reciprocal-space features, and back.

Z. Ren et al., "An invertible crystallographic representation for general inverse design of inorganic crystals with
targeted properties", Matter 5, 314 (2022). Names are loaded on first use, so that importing the package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crysgen_aiida.representations.ftcp.compact import Compact, compact_of
    from crysgen_aiida.representations.ftcp.decode import crystals_of, read_matrices
    from crysgen_aiida.representations.ftcp.encode import matrices
    from crysgen_aiida.representations.ftcp.layout import Layout
    from crysgen_aiida.representations.ftcp.scaler import RowScaler
    from crysgen_aiida.representations.ftcp.spec import FtcpSpec

# the function ``layout`` is not here: the module of that name would hide it once it is imported
_HOME = {
    "Compact": "compact",
    "FtcpSpec": "spec",
    "Layout": "layout",
    "RowScaler": "scaler",
    "compact_of": "compact",
    "crystals_of": "decode",
    "matrices": "encode",
    "read_matrices": "decode",
}

__all__ = ["Compact", "FtcpSpec", "Layout", "RowScaler", "compact_of", "crystals_of", "matrices", "read_matrices"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
