"""What everybody may know of the substitution generator."""

from dataclasses import dataclass

from crysgen_aiida.generators.contract import GeneratorInfo


@dataclass(frozen=True)
class Spec:
    swaps: int = 1  # elements exchanged in each sampled crystal


INFO = GeneratorInfo("exchange", "1", "substitution:Substitution", Spec, ("band_gap",), {"sequence": "string"}, "")
