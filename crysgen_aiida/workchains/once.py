"""Work chains that submit a step once, also when the daemon was killed while it submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import WorkChain

if TYPE_CHECKING:
    _Base = WorkChain
else:
    _Base = object


class SubmitOnce(_Base):
    """Mixin for work chains whose every step has a call link label of its own.

    A work chain is saved after a step. If its worker is killed between submitting a child and being saved, the step is
    done again and would submit a second child to do the same work; here the first is taken instead.
    """

    def submit(self, process: Any, inputs: Any = None, **kwargs: Any) -> Any:
        """Submit a process, or return the child this very step has submitted before."""
        metadata = kwargs.get("metadata") or (inputs or {}).get("metadata") or {}
        label = metadata.get("call_link_label")
        held = self._submitted_before(label) if label else None
        if held is not None:
            self.report(f"the step {label} was submitted before the daemon was killed: waiting for {held.pk}")
            return held
        return super().submit(process, inputs, **kwargs)

    def _submitted_before(self, label: str) -> orm.ProcessNode | None:
        known = {child.pk for child in self.ctx.get("children", [])}
        links = self.node.base.links.get_outgoing(
            link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK), link_label_filter=label
        )
        for node in cast(list[orm.ProcessNode], links.all_nodes()):
            # without a checkpoint it was cut off before it could ever run
            alive = (node.is_terminated and not node.is_excepted) or node.checkpoint is not None
            if node.pk not in known and alive:
                return node
        return None
