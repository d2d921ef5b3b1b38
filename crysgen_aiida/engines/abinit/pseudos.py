"""psp8 potentials of a crystal from a family in the profile; UPF ones are converted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.engine import calcfunction
from aiida.manage.caching import enable_caching

from crysgen_aiida.engines.abinit.psp8 import upf_to_psp8

if TYPE_CHECKING:
    from aiida_pseudo.data.pseudo import Psp8Data


@calcfunction
def to_psp8(upf: orm.SinglefileData) -> orm.SinglefileData:
    """Return a UPF potential as psp8.

    :raises BadInput: for what psp8 or ABINIT cannot hold; see :func:`~crysgen_aiida.engines.abinit.psp8.upf_to_psp8`.
    """
    import io

    from aiida.plugins import DataFactory

    with upf.open(mode="r") as handle:
        text = upf_to_psp8(handle.read(), upf.filename)
    name = f"{upf.filename.rsplit('.', 1)[0]}.psp8"
    made: Psp8Data = DataFactory("pseudo.psp8")(io.BytesIO(text.encode()), filename=name)
    return made


def psp8_pseudos(structure: orm.StructureData, family: Any) -> dict[str, orm.SinglefileData]:
    """Return psp8 nodes by element; the conversion of the same file is taken from AiiDA's cache.

    :raises BadInput: naming the file, if one cannot be converted.
    """
    elements = sorted({symbol for kind in structure.kinds for symbol in kind.symbols})
    held: dict[str, orm.SinglefileData] = {}
    convert: Any = to_psp8
    for element in elements:
        pseudo = family.get_pseudo(element)
        if str(family.pseudo_type).endswith("psp8"):
            held[element] = pseudo
            continue
        with enable_caching(identifier=f"{__name__}.to_psp8"):
            held[element] = convert(pseudo, metadata={"call_link_label": f"to_psp8_{element}"})
    return held
