"""The engines that need no package of their own: interatomic potentials, and Boltzmann transport, by the worker."""

from __future__ import annotations

from crysgen_aiida.engines.contract import EngineInfo, StageInfo

_ELASTIC = ("elastic_min_eigenvalue", "bulk_modulus_vrh", "shear_modulus_vrh", "young_modulus_vrh", "poisson_ratio")
_PHONON = ("phonon_min_frequency", "phonon_min_frequency_gamma", "phonon_max_frequency", "heat_capacity_300k")

POTENTIAL = EngineInfo(
    name="potential",
    summary="an interatomic potential, all candidates in one job",
    stages={
        "relax": StageInfo("crysgen.base.relax", ("worker",), ("energy_per_atom", "max_force", "max_stress")),
        "hull": StageInfo(
            "crysgen.base.screen",
            ("worker",),
            ("e_above_reference", "formation_energy_per_atom", "band_gap"),
            "the gap is that of the surrogate",
        ),
        "phonon": StageInfo("crysgen.base.phonon", ("worker",), _PHONON),
        "elastic": StageInfo("crysgen.base.elastic", ("worker",), _ELASTIC),
        "kappa": StageInfo("crysgen.base.kappa", ("worker",), ("kappa_300k",)),
    },
    batched=True,
    executables={"worker": "crysgen-worker"},
    plugins={"worker": "crysgen.relax"},
)

BOLTZTRAP = EngineInfo(
    name="boltztrap",
    summary="transport from electronic bands by BoltzTraP2",
    stages={
        "transport": StageInfo(
            "crysgen.base.transport",
            ("worker",),
            ("seebeck", "power_factor"),
            "it needs bands on a mesh from the stage bands",
        )
    },
    modules=("BoltzTraP2",),
    install="pip install 'crysgen-aiida[transport]'",
    batched=True,
    executables={"worker": "crysgen-worker"},
    plugins={"worker": "crysgen.relax"},
    citation="G. K. H. Madsen et al., Comput. Phys. Commun. 231, 140 (2018)",
    licence="GPL-3.0",
)
