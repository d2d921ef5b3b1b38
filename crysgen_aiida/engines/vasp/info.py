"""What the engine ``vasp`` declares. Nothing of aiida-vasp is imported here."""

from __future__ import annotations

from crysgen_aiida.engines.contract import EngineInfo, StageInfo

_CODES = ("vasp",)

INFO = EngineInfo(
    name="vasp",
    summary="VASP by aiida-vasp's VaspRelaxWorkChain and VaspWorkChain, inputs compatible with the Materials Project",
    stages={
        "relax": StageInfo(
            "crysgen.vasp.relax", _CODES, ("energy_per_atom", "volume_per_atom", "density", "max_force", "max_stress")
        ),
        "bands": StageInfo(
            "crysgen.vasp.bands", _CODES, ("band_gap",), "The path of the bands needs a primitive cell."
        ),
        "dfpt": StageInfo(
            "crysgen.vasp.dfpt",
            _CODES,
            ("dielectric_electronic", "dielectric_total", "piezo_max", "phonon_min_frequency_gamma"),
            "Insulators only; semilocal functionals only (IBRION 7 and 8 know no hybrids and no meta-GGA).",
        ),
        "phonon": StageInfo(
            "crysgen.vasp.phonon",
            _CODES,
            ("phonon_min_frequency_gamma", "phonon_min_frequency_commensurate"),
            "Force constants of a supercell by IBRION 8 or 6; the verdict is one at Gamma.",
        ),
        "elastic": StageInfo(
            "crysgen.vasp.elastic",
            _CODES,
            (
                "bulk_modulus_vrh",
                "shear_modulus_vrh",
                "young_modulus_vrh",
                "poisson_ratio",
                "universal_anisotropy",
                "elastic_min_eigenvalue",
            ),
        ),
    },
    modules=("aiida_vasp",),
    install="pip install aiida-vasp==5.1.0",
    plugins={"vasp": "vasp.vasp"},
    executables={"vasp": "vasp_std"},
    pseudopotentials="potcar",
    citation="G. Kresse, J. Furthmüller, Phys. Rev. B 54, 11169 (1996)",
    licence="VASP: commercial, vasp.at; aiida-vasp: MIT",
)
