"""VerifyWorkChain: candidates through stages, cheap ones first, until a gate stops them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, WorkChain, while_
from aiida.plugins import WorkflowFactory

from crysgen_aiida.calculations.functions import select_rows
from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.crystals.errors import CrysgenError
from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData
from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.contract import get_engine
from crysgen_aiida.workchains.base import BY_VERB
from crysgen_aiida.workchains.verify.collect import bands_to_transport, candidate_structure, collect_results
from crysgen_aiida.workchains.verify.gates import (
    NOT_COMPUTED,
    Verdict,
    before_response,
    judge_results,
    judge_row,
)
from crysgen_aiida.workchains.verify.plan import AT_REST, POTENTIAL, TRANSPORT, Step
from crysgen_aiida.workchains.verify.ports import define_inputs

#: Stage of a potential to the verb of the worker that does it.
_VERBS = {"relax": "relax", "hull": "screen", "phonon": "phonon", "elastic": "elastic", "kappa": "kappa"}
#: Outputs of an engine's stage that are handed on, besides its results.
_KEPT = ("structure", "tensors", "bands", "mesh_bands", "phonon_bands", "dos")


class VerifyWorkChain(SubmitOnce, WorkChain):
    """Compute what is claimed of candidates.

    Steps of a potential take all candidates in one job; steps of other engines take each candidate by itself, some
    at a time. A candidate that a gate stops, or that a step cannot compute, takes no part in later steps; what is known
    of it by then is in the results all the same, with the reason.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        define_inputs(spec)
        spec.outline(
            cls.setup,
            while_(cls.has_work)(cls.start, cls.inspect),  # type: ignore[arg-type]
            cls.collect,
        )
        spec.output("results", valid_type=PropertyTableData, help="Values and verdicts, addressed to the candidates.")
        spec.output_namespace("sets", dynamic=True, required=False, help="Sets and tables of the worker, by step.")
        spec.output_namespace("made", dynamic=True, required=False, help="Outputs of engines, by candidate and step.")
        spec.exit_code(
            430, "ERROR_STEP_FAILED", invalidates_cache=True, message="A step failed for all candidates: {reason}"
        )

    # -- the line -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Put everybody at the start."""
        self.ctx.rows = [int(row) for row in self.inputs.rows.get_list()]
        self.ctx.position = 0
        self.ctx.waiting = list(self.ctx.rows)
        self.ctx.running = []
        self.ctx.stopped = {}  # row -> reason
        self.ctx.sets = {}  # potential -> {"node", "rows"}: crystals at rest with it
        self.ctx.structures = {}  # row -> structure of the last engine that moved it
        self.ctx.bands = {}  # row -> structure, bands on a mesh and results of the stage that made them
        self.ctx.gaps = {}  # row -> band gap [eV]
        self.ctx.nodes = {}  # label -> node, for the collection
        self.ctx.made = []
        self.ctx.verdicts = []
        self.ctx.broken = None

    @property
    def _step(self) -> Step:
        return Step.from_dict(self.inputs.plan.get_list()[self.ctx.position])

    def _alive(self) -> list[int]:
        return [row for row in self.ctx.rows if str(row) not in self.ctx.stopped]

    def has_work(self) -> bool:
        """Whether a step is left, and a candidate to take it."""
        return self.ctx.position < len(self.inputs.plan.get_list()) and bool(self._alive())

    def start(self) -> Any:
        """Submit the next step, or the next candidates of it."""
        step = self._step
        self.ctx.running = []
        if step.engine == POTENTIAL:
            return self._start_set(step)
        limit = self.inputs.max_concurrent.value
        children: dict[str, Any] = {}
        while self.ctx.waiting and len(children) < limit:
            row = self.ctx.waiting.pop(0)
            child = self._start_one(step, row)
            if child is not None:
                children[f"child_{row}"] = child
                self.ctx.running.append(row)
        return ToContext(**children) if children else None

    def inspect(self) -> None:
        """Take over what has ended; go to the next step when everybody is through this one."""
        step = self._step
        if step.engine == POTENTIAL:
            if self.ctx.running:
                self._take_set(step, self.ctx.child_set)
            self.ctx.waiting = []
        else:
            for row in self.ctx.running:
                self._take_one(step, row, self.ctx[f"child_{row}"])
        if not self.ctx.waiting:
            self.ctx.position += 1
            self.ctx.waiting = self._alive()

    def collect(self) -> ExitCode | None:
        """Make the table of results."""
        about = {
            "set": self.inputs.crystals.uuid,
            "made": list(self.ctx.made),
            "verdicts": list(self.ctx.verdicts),
            "plan": self.inputs.plan.get_list(),
            "gates": self.inputs.gates.get_dict(),
        }
        table = collect_results(
            self.inputs.crystals,
            orm.Dict(about),
            **self.ctx.nodes,
            metadata={"call_link_label": "collect"},  # type: ignore[arg-type]
        )
        self.out("results", table)
        if self.ctx.broken is not None:
            return self.exit_codes.ERROR_STEP_FAILED.format(reason=self.ctx.broken)
        return None

    # -- steps of the worker: all candidates in one job ------------------------------------------------------------

    def _worker(self, step: Step) -> orm.AbstractCode:
        return self.inputs.codes[step.engine]["worker"]

    def _start_set(self, step: Step) -> Any:
        alive = self._alive()
        held = self._set_for(step, alive)
        if held is None:
            return None
        node, rows = held
        verb = _VERBS[step.stage]
        chain = BY_VERB[verb]
        builder: Any = chain.get_builder()
        job = builder[verb]
        job.code, job.seed, job.crystals = self._worker(step), self.inputs.seed, node
        if verb == "screen":
            job.reference = self.inputs.reference
            job.parameters = orm.Dict(dict(step.settings))
        else:
            job.parameters = orm.Dict({"potential": {"name": step.potential}, verb: dict(step.settings)})
        job.metadata.options = self._options(POTENTIAL, step.stage)
        builder.metadata.call_link_label = step.key
        self.ctx.running = rows
        self.ctx.given = node
        return ToContext(child_set=self.submit(builder))

    def _set_for(self, step: Step, alive: list[int]) -> tuple[CrystalSetData, list[int]] | None:
        """Return the crystals a step works on with the candidates they are, None if there is none."""
        if step.stage not in AT_REST:
            return self._select(self.inputs.crystals, alive, step), alive
        held = self.ctx.sets.get(step.potential)
        if held is None:
            for row in alive:
                self._judge(step, row, Verdict(NOT_COMPUTED, "it was not relaxed with this potential"), None)
            return None
        node, rows = held["node"], list(held["rows"])
        wanted = [k for k, row in enumerate(rows) if row in alive and node.get(k)["lattice"] is not None]
        if len(wanted) == len(rows):
            return node, rows
        if not wanted:
            return None
        return self._select(node, wanted, step), [rows[k] for k in wanted]

    def _select(self, node: CrystalSetData, rows: list[int], step: Step) -> CrystalSetData:
        chosen: CrystalSetData = select_rows(
            node,
            orm.List(rows),
            metadata={"call_link_label": f"select_{step.key}"},  # type: ignore[call-arg]
        )
        return chosen

    def _take_set(self, step: Step, child: orm.WorkChainNode) -> None:
        rows = self.ctx.running
        if not child.is_finished_ok:
            reason = f"{child.process_label}<{child.pk}> failed: {child.exit_message or child.process_state}"
            self.report(reason)
            if not step.second:
                self.ctx.broken = reason
            for row in rows:
                self._judge(step, row, Verdict(NOT_COMPUTED, reason), child.uuid)
            return
        made = child.outputs.crystals if step.stage == "relax" else child.outputs.table
        given = made if step.stage == "relax" else self.ctx.given
        if step.stage == "relax":
            self.ctx.sets[step.potential] = {"node": made, "rows": rows}
        self.out(f"sets.{step.key}", made)
        self.ctx.nodes[step.key] = made
        geometry = f"crystals_{step.key}"
        self.ctx.nodes[geometry] = given
        self._made(step, step.key, rows, geometry)
        for position, row in enumerate(rows):
            record = made.get(position)
            if step.stage == "hull" and record.get("band_gap") is not None:
                self.ctx.gaps.setdefault(str(row), record["band_gap"])
            self._judge(step, row, judge_row(step.stage, record, self.inputs.gates.get_dict()), made.uuid)

    # -- steps of other engines: each candidate by itself ----------------------------------------------------------

    def _start_one(self, step: Step, row: int) -> Any:
        try:
            structure = self._structure(row)
        except CrysgenError as error:
            return self._judge(step, row, Verdict(NOT_COMPUTED, str(error)), None)
        gates = self.inputs.gates.get_dict()
        if step.stage == "dfpt":
            verdict = before_response(to_pymatgen(structure), self.ctx.gaps.get(str(row)), gates)
            if not verdict.goes_on:
                return self._judge(step, row, verdict, structure.uuid)
        if step.engine == TRANSPORT:
            return self._start_transport(step, row)
        chain: Any = WorkflowFactory(get_engine(step.engine).stage(step.stage).work_chain)
        inputs: dict[str, Any] = {
            "structure": structure,
            "codes": dict(self.inputs.get("codes", {}).get(step.engine, {})),
            "settings": orm.Dict(dict(step.settings)),
            "options": self._options(step.engine, step.stage),
            "metadata": {"call_link_label": f"r{row}_{step.key}"},
        }
        if step.engine in self.inputs.get("pseudo_families", {}):
            inputs["pseudo_family"] = self.inputs.pseudo_families[step.engine]
        self.ctx.nodes[f"structure_r{row}_{step.key}"] = structure
        return self.submit(chain, **inputs)

    def _start_transport(self, step: Step, row: int) -> Any:
        held = self.ctx.bands.get(str(row))
        if held is None:
            return self._judge(step, row, Verdict(NOT_COMPUTED, "no bands on a mesh are known of it"), None)
        chain = BY_VERB["transport"]
        builder: Any = chain.get_builder()
        label = f"r{row}_mesh_bands"
        builder.transport.bands = bands_to_transport(**held, metadata={"call_link_label": label})  # type: ignore[call-arg]
        builder.transport.code, builder.transport.seed = self._worker(step), self.inputs.seed
        builder.transport.parameters = orm.Dict({"transport": dict(step.settings)})
        builder.transport.metadata.options = self._options(step.engine, step.stage)
        builder.metadata.call_link_label = f"r{row}_{step.key}"
        self.ctx.nodes[f"structure_r{row}_{step.key}"] = held["structure"]
        return self.submit(builder)

    def _take_one(self, step: Step, row: int, child: orm.WorkChainNode) -> None:
        if not child.is_finished_ok:
            self._judge(step, row, Verdict(NOT_COMPUTED, child.exit_message or str(child.process_state)), child.uuid)
            return
        label, geometry = f"r{row}_{step.key}", f"structure_r{row}_{step.key}"
        if step.engine == TRANSPORT:
            table = child.outputs.table
            self.out(f"made.{label}.table", table)
            self.ctx.nodes[label] = table
            self._made(step, label, [row], geometry)
            self._judge(step, row, judge_row(step.stage, table.get(0), self.inputs.gates.get_dict()), table.uuid)
            return
        results = child.outputs.results
        self.out(f"made.{label}.results", results)
        for name in _KEPT:
            if name in child.outputs:
                self.out(f"made.{label}.{name}", child.outputs[name])
        if "structure" in child.outputs:
            self.ctx.structures[str(row)] = child.outputs.structure
            self.ctx.nodes[geometry] = child.outputs.structure
        self.ctx.nodes[label] = results
        self._made(step, label, [row], geometry)
        if "mesh_bands" in child.outputs:
            structure = self.ctx.nodes[geometry]
            held = {"structure": structure, "bands": child.outputs.mesh_bands, "results": results}
            self.ctx.bands[str(row)] = held
        found = results.get_dict()
        if "band_gap" in found["values"]:
            self.ctx.gaps[str(row)] = found["values"]["band_gap"]
        self._judge(step, row, judge_results(step.stage, found, self.inputs.gates.get_dict()), results.uuid)

    def _structure(self, row: int) -> orm.StructureData:
        """Return the candidate's crystal: of the last engine that moved it, of a potential, or as it was given."""
        if str(row) in self.ctx.structures:
            return self.ctx.structures[str(row)]
        node, position = self.inputs.crystals, row
        for held in self.ctx.sets.values():
            if row in held["rows"] and held["node"].get(held["rows"].index(row))["lattice"] is not None:
                node, position = held["node"], held["rows"].index(row)
                break
        made = candidate_structure(
            node,
            orm.Int(position),
            self.inputs.symprec,
            metadata={"call_link_label": f"r{row}_structure"},  # type: ignore[call-arg]
        )
        self.ctx.structures[str(row)] = made
        return made

    # -- bookkeeping ----------------------------------------------------------------------------------------------

    def _made(self, step: Step, label: str, rows: list[int], geometry: str) -> None:
        self.ctx.made.append(
            {
                "label": label,
                "stage": step.stage,
                "engine": step.potential or step.engine,
                "second": step.second,
                "rows": list(rows),
                "geometry": geometry,
            }
        )

    def _judge(self, step: Step, row: int, verdict: Verdict, source: str | None) -> None:
        self.ctx.verdicts.append(
            {
                "row": row,
                "stage": step.stage,
                "engine": step.potential or step.engine,
                "verdict": verdict.verdict,
                "reason": verdict.reason,
                "source": source,
            }
        )
        if not verdict.goes_on and not step.second:
            self.ctx.stopped[str(row)] = verdict.reason
            self.report(f"candidate {row} goes no further than {step.stage}: {verdict.reason}")

    def _options(self, engine: str, stage: str) -> dict[str, Any]:
        held: Mapping[str, Any] = self.inputs.get("options", {}).get(engine, {})
        return dict(held.get(stage, held.get("default", {})))
