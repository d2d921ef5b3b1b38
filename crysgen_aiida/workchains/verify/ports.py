"""Inputs of a verification, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

from aiida import orm

from crysgen_aiida.crystals.errors import CrysgenError
from crysgen_aiida.data.packed import CrystalSetData, ReferenceEnergiesData
from crysgen_aiida.engines.contract import get_engine
from crysgen_aiida.workchains.verify.plan import Step, make_gates


def define_inputs(spec: Any) -> None:
    """Define the inputs of :class:`~crysgen_aiida.workchains.verify.chain.VerifyWorkChain`."""
    spec.input("crystals", valid_type=CrystalSetData, help="The set whose rows are the candidates.")
    spec.input(
        "rows", valid_type=orm.List, serializer=orm.to_aiida_type, validator=_validate_rows, help="Rows to verify."
    )
    spec.input(
        "plan",
        valid_type=orm.List,
        serializer=orm.to_aiida_type,
        validator=_validate_plan,
        help="Steps in their order; `crysgen_aiida.workchains.verify.plan.make_plan` makes them.",
    )
    spec.input(
        "gates",
        valid_type=orm.Dict,
        default=lambda: orm.Dict(make_gates()),
        serializer=orm.to_aiida_type,
        validator=_validate_gates,
        help="When a candidate goes no further.",
    )
    spec.input("reference", valid_type=ReferenceEnergiesData, required=False, help="For the stage hull.")
    spec.input_namespace("codes", dynamic=True, required=False, help="Codes by engine, then by role.")
    spec.input_namespace(
        "pseudo_families", valid_type=orm.Str, dynamic=True, required=False, help="Pseudopotentials by engine."
    )
    spec.input(
        "options",
        valid_type=dict,
        non_db=True,
        required=False,
        help="Site: metadata.options by engine and stage (or `default`); nothing here changes a result.",
    )
    for name, value, text in (
        ("seed", 0, "Seed of the worker's steps."),
        ("max_concurrent", 4, "Candidates that an engine computes at the same time."),
    ):
        spec.input(
            name,
            valid_type=orm.Int,
            default=lambda value=value: orm.Int(value),
            serializer=orm.to_aiida_type,
            help=text,
        )
    spec.input(
        "symprec",
        valid_type=orm.Float,
        default=lambda: orm.Float(0.05),
        serializer=orm.to_aiida_type,
        help="Tolerance within which a crystal is symmetrised before an engine other than a potential [A].",
    )
    spec.inputs.validator = _validate_together


def _validate_rows(value: orm.List | None, _: Any) -> str | None:
    rows = value.get_list() if value is not None else []
    if not rows or not all(isinstance(row, int) and row >= 0 for row in rows) or len(set(rows)) < len(rows):
        return f"rows are {rows!r}; give row numbers of the set, each once."
    return None


def _validate_plan(value: orm.List | None, _: Any) -> str | None:
    try:
        steps = [Step.from_dict(step) for step in (value.get_list() if value is not None else [])]
    except (CrysgenError, TypeError) as error:
        return str(error)
    return None if steps else "the plan has no step."


def _validate_gates(value: orm.Dict | None, _: Any) -> str | None:
    try:
        make_gates(value.get_dict() if value is not None else {})
    except CrysgenError as error:
        return str(error)
    return None


def _validate_together(inputs: Any, _: Any) -> str | None:
    if "plan" not in inputs or "crystals" not in inputs:
        return None
    steps = [Step.from_dict(step) for step in inputs["plan"].get_list()]
    n = inputs["crystals"].n_rows
    beyond = [row for row in inputs["rows"].get_list() if row >= n]
    if beyond:
        return f"the set has rows 0 to {n - 1}, not {beyond}."
    if any(step.stage == "hull" for step in steps) and "reference" not in inputs:
        return "the plan has the stage hull: give `reference`, what energies are judged against."
    for step in steps:
        info = get_engine(step.engine)
        given = inputs.get("codes", {}).get(step.engine, {})
        lacking = sorted(set(info.stage(step.stage).codes) - set(given))
        if lacking:
            needed = ", ".join(lacking)
            return f"the stage {step.stage} of {step.engine} needs the codes {needed}: give codes.{step.engine}."
    return None
