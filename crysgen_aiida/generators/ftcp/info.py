"""What everybody may know of FTCP without importing torch."""

from __future__ import annotations

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.generators.contract import GeneratorInfo
from crysgen_aiida.generators.ftcp.presets import PRESETS
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec

VERSION = "3"

INFO = GeneratorInfo(
    name="ftcp",
    version=VERSION,
    implementation="crysgen_aiida.generators.ftcp.generator:Ftcp",
    spec=FtcpGeneratorSpec,
    conditions=tuple(name for name, known in PROPERTIES.items() if not known.shape),
    sequence_columns={
        "atomic_numbers": "list<int16>",
        "lattice": "list<double>",
        "coordinates": "list<double>",
        "occupancies": "list<float>",
        "latent": "list<float>",
        "training_row": "int64",
        "second_training_row": "int64",
    },
    citation=(
        "Z. Ren et al., An invertible crystallographic representation for general inverse design of inorganic crystals "
        "with targeted properties, Matter 5, 314 (2022)."
    ),
    presets=PRESETS,
)
