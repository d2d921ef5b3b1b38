"""What everybody may know of MatterGPT without importing torch."""

from __future__ import annotations

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.generators.contract import GeneratorInfo
from crysgen_aiida.generators.mattergpt.spec import PRESETS, MatterGPTSpec

VERSION = "3"

#: Any registered scalar can be a training label; categories are labels found by symmetry analysis; ``elements`` and
#: ``composition`` need no training: the grammar admits nothing else.
CONDITIONS = (
    *(name for name, known in PROPERTIES.items() if not known.shape),
    "crystal_system",
    "space_group",
    "elements",
    "composition",
)

INFO = GeneratorInfo(
    name="mattergpt",
    version=VERSION,
    implementation="crysgen_aiida.generators.mattergpt.generator:MatterGPT",
    spec=MatterGPTSpec,
    conditions=CONDITIONS,
    sequence_columns={"sequence": "string"},
    citation=(
        "Y. Chen et al., MatterGPT: A Generative Transformer for Multi-Property Inverse Design of Solid-State "
        "Materials, arXiv:2408.07608 (2024); H. Xiao et al., SLICES, Nat. Commun. 14, 7027 (2023)."
    ),
    presets=PRESETS,
    imposed=("elements", "composition"),
    loss_unit="nats/token",
)
