"""An engine for tests of the verification: its values are made from the structure by calcfunctions."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.engines.contract import EngineInfo, StageInfo
from crysgen_aiida.engines.results import stage_results
from crysgen_aiida.engines.stage import EngineStage

#: Crystals with this element are called metals by the toy.
METAL = "Al"


@calcfunction
def swollen(structure: orm.StructureData) -> orm.StructureData:
    """Return the crystal one per cent larger."""
    larger = structure.get_ase()
    larger.set_cell(larger.cell * 1.01, scale_atoms=True)
    return orm.StructureData(ase=larger)


@calcfunction
def results_of(structure: orm.StructureData, stage: orm.Str) -> orm.Dict:
    """Return values that tell which crystal they are of."""
    n = len(structure.sites)
    values = {
        "relax": {"energy_per_atom": -float(n)},
        "bands": {"band_gap": 0.0 if METAL in structure.get_symbols_set() else 1.0 + n / 10},
        "dfpt": {"piezo_max": 0.5 + n},
    }[stage.value]
    return orm.Dict(stage_results(engine="toy", stage=stage.value, method="pbe-toy", values=values))


class ToyStage(EngineStage):
    """One stage of the toy; a crystal with oxygen fails in `bands`."""

    STAGE = ""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.compute)

    def compute(self):
        structure = self.inputs.structure
        if self.STAGE == "bands" and "O" in structure.get_symbols_set():
            return self.refused("the toy cannot handle oxygen")
        if self.STAGE == "relax":
            structure = swollen(structure)
            self.out("structure", structure)
        self.out("results", results_of(structure, orm.Str(self.STAGE)))
        return None


class ToyRelax(ToyStage):
    """Makes crystals swell."""

    STAGE = "relax"


class ToyBands(ToyStage):
    """Finds gaps."""

    STAGE = "bands"


class ToyResponse(ToyStage):
    """Finds piezoelectric constants."""

    STAGE = "dfpt"


TOY = EngineInfo(
    "toy",
    "for tests",
    {"relax": StageInfo("toy.relax", ()), "bands": StageInfo("toy.bands", ()), "dfpt": StageInfo("toy.dfpt", ())},
)
CHAINS = {"toy.relax": ToyRelax, "toy.bands": ToyBands, "toy.dfpt": ToyResponse}
