"""Work chains that submit a step once, also when the daemon is killed while it submits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import WorkChain
from aiida.engine.utils import prepare_inputs

from crysgen_aiida.data.patience import write_transaction

if TYPE_CHECKING:
    _Base = WorkChain
else:
    _Base = object


class SubmitOnce(_Base):
    """Mixin for work chains whose every step has a call link label of its own.

    A work chain is saved after a step. If its worker is killed between submitting a child and being saved, the step is
    done again and would submit a second child to do the same work; here the first is taken instead. For that a child
    must be whole or not there: it and its checkpoint are stored in one transaction.
    """

    def submit(self, process: Any, inputs: Any = None, **kwargs: Any) -> Any:
        """Submit a process, or return the child this very step has submitted before."""
        given = prepare_inputs(inputs, **kwargs)
        label = (given.get("metadata") or {}).get("call_link_label")
        held = self._submitted_before(label) if label else None
        if held is not None:
            self.report(f"the step {label} was submitted before the daemon was killed: waiting for {held.pk}")
            return held
        runner = self.runner
        if not runner.is_daemon_runner or runner.persister is None or runner.controller is None:
            return super().submit(process, given)
        with write_transaction(self.node.backend):
            child = runner.instantiate_process(process, **given)
            runner.persister.save_checkpoint(child)
        child.close()
        runner.controller.continue_process(child.pid, nowait=False, no_reply=True)
        return child.node

    def _submitted_before(self, label: str) -> orm.ProcessNode | None:
        known = {child.pk for child in self.ctx.get("children", [])}
        links = self.node.base.links.get_outgoing(
            link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK), link_label_filter=label
        )
        for node in cast(list[orm.ProcessNode], links.all_nodes()):
            # an excepted one never ran, or ran into an error of AiiDA itself: a new one may do better
            if node.pk not in known and not node.is_excepted:
                return node
        return None
