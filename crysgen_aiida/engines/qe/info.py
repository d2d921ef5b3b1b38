"""What the engine ``qe`` offers; readable without its package."""

from __future__ import annotations

from crysgen_aiida.engines.contract import EngineInfo, StageInfo

INFO = EngineInfo(
    name="qe",
    summary="Quantum ESPRESSO: plane waves and pseudopotentials; relaxation, bands, dielectric response and phonons",
    stages={
        "relax": StageInfo("crysgen.qe.relax", ("pw",), ("energy_per_atom", "max_force", "max_stress")),
        "bands": StageInfo("crysgen.qe.bands", ("pw",), ("band_gap",)),
        "dfpt": StageInfo(
            "crysgen.qe.dfpt",
            ("pw", "ph"),
            ("dielectric_electronic", "dielectric_total", "phonon_min_frequency_gamma"),
            "No piezoelectric tensor: ph.x has none. Insulators without magnetic order only.",
        ),
        "phonon": StageInfo(
            "crysgen.qe.phonon",
            ("pw", "ph", "q2r", "matdyn"),
            (
                "phonon_min_frequency",
                "phonon_min_frequency_gamma",
                "phonon_min_frequency_commensurate",
                "phonon_max_frequency",
                "zero_point_energy",
                "heat_capacity_300k",
                "vibrational_entropy_300k",
                "vibrational_free_energy_300k",
            ),
            "By perturbation theory on a grid of wave vectors; hours for more than a few atoms.",
        ),
    },
    modules=("aiida_quantumespresso", "aiida_pseudo"),
    install="pip install aiida-quantumespresso aiida-pseudo; apt-get install quantum-espresso",
    plugins={
        "pw": "quantumespresso.pw",
        "ph": "quantumespresso.ph",
        "q2r": "quantumespresso.q2r",
        "matdyn": "quantumespresso.matdyn",
    },
    executables={"pw": "pw.x", "ph": "ph.x", "q2r": "q2r.x", "matdyn": "matdyn.x"},
    pseudopotentials="upf",
    citation="P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017), doi:10.1088/1361-648X/aa8f79",
    licence="GPL-2.0-or-later",
)
