"""What lines of stages share: inputs handed to a stage, and a stage's outputs or failure handed on."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, WorkChain

from crysgen_aiida.workchains.base import WorkerBaseWorkChain


def link_inputs(line: WorkChain, chain: type[WorkerBaseWorkChain], **given: orm.Node) -> AttributeDict:
    """Return the inputs of a stage: those exposed under its verb, plus the line's code, seed and what is ``given``."""
    verb = chain._process_class.VERB
    inputs = AttributeDict(line.exposed_inputs(chain, verb))
    job = inputs.setdefault(verb, AttributeDict())
    job.setdefault("code", line.inputs.code)
    job.update(seed=line.inputs.seed, **given)
    inputs.setdefault("metadata", AttributeDict())["call_link_label"] = verb
    return inputs


def pass_on(
    line: WorkChain, chain: type[WorkerBaseWorkChain], stage: orm.WorkChainNode, **renamed: str
) -> ExitCode | None:
    """Attach the outputs of a finished stage; if it failed, return its exit code with its sentence instead.

    :param renamed: output of the stage to its name in the line, where they differ.
    """
    verb = chain._process_class.VERB
    if not stage.is_finished_ok:
        message = f"The stage {verb} failed: {stage.exit_message or stage.process_state}"
        line.report(message)
        return ExitCode(stage.exit_status or 1, message, invalidates_cache=True)
    for label in chain._process_class.OUTPUTS:
        line.out(renamed.get(label, label), stage.outputs[label])
    return None
