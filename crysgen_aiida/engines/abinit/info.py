"""What the engine ``abinit`` offers; readable without its programs."""

from __future__ import annotations

from crysgen_aiida.engines.contract import EngineInfo, StageInfo

INFO = EngineInfo(
    name="abinit",
    summary="ABINIT: response to fields, displacements and strains; dielectric, piezoelectric and elastic tensors",
    stages={
        "dfpt": StageInfo(
            "crysgen.abinit.dfpt",
            ("abinit", "mrgddb", "anaddb"),
            (
                "piezo_max",
                "piezo_strain_max",
                "dielectric_electronic",
                "dielectric_total",
                "elastic_min_eigenvalue",
                "bulk_modulus_vrh",
                "shear_modulus_vrh",
                "young_modulus_vrh",
                "poisson_ratio",
                "universal_anisotropy",
                "phonon_min_frequency_gamma",
            ),
            "Insulators without magnetic order, at rest: relax them first with the same pseudopotentials.",
        ),
    },
    modules=("aiida_pseudo",),
    install="pip install aiida-pseudo; apt-get install abinit",
    plugins={"abinit": "crysgen.abinit.dfpt"},
    executables={"abinit": "abinit", "mrgddb": "mrgddb", "anaddb": "anaddb"},
    pseudopotentials="upf",
    citation="X. Gonze et al., Comput. Phys. Commun. 248, 107042 (2020), doi:10.1016/j.cpc.2019.107042",
    licence="GPL-3.0-or-later",
)
