"""What everybody may know of element substitution."""

from __future__ import annotations

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.generators.contract import GeneratorInfo
from crysgen_aiida.generators.substitution.spec import SubstitutionSpec

INFO = GeneratorInfo(
    name="substitution",
    version="1",
    implementation="crysgen_aiida.generators.substitution.generator:Substitution",
    spec=SubstitutionSpec,
    conditions=tuple(name for name, known in PROPERTIES.items() if not known.shape),
    sequence_columns={"sequence": "string", "prototype_row": "int64", "prototype": "string", "swap": "string"},
    citation=(
        "G. Hautier, C. Fischer, V. Ehrlacher, A. Jain, G. Ceder, Data Mined Ionic Substitutions for the Discovery of "
        "New Compounds, Inorg. Chem. 50, 656 (2011); cells scaled as in I.-H. Chu, S. Roychowdhury, D. Han, A. Jain, "
        "S. P. Ong, Comput. Mater. Sci. 146, 184 (2018); both as in pymatgen."
    ),
)
