"""Candidate sets: what a finished screening made, joined row by row.

A candidate is a row of a *relaxed* crystal set that was screened; its address is that set's uuid and the row. This
module reads the graph and its packed nodes; questions over many runs go to the index instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.store.address import Address, load_node, resolve

if TYPE_CHECKING:
    import pandas as pd
    from aiida.orm import ProcessNode, StructureData

    from crysgen_aiida.data.packed import (
        CrystalSetData,
        DecisionData,
        PackedData,
        PropertyTableData,
        ReferenceEnergiesData,
        SequenceSetData,
    )

SCREEN = "aiida.calculations:crysgen.screen"
DESIGN = "aiida.workflows:crysgen.inverse_design"
VERIFY = "aiida.workflows:crysgen.verify"

#: Columns of a frame that say where a row came from.
LINEAGE = ("address", "crystal_row", "sequence_row")


@dataclass(frozen=True)
class CandidateSet:
    """One screening: the relaxed crystals, the table that judged them and what they came from."""

    screen: ProcessNode
    relaxed: CrystalSetData
    table: PropertyTableData
    unrelaxed: CrystalSetData | None
    sequences: SequenceSetData | None
    reference: ReferenceEnergiesData | None
    design: ProcessNode | None  #: the inverse-design work chain it is part of

    @property
    def run(self) -> ProcessNode:
        """The process a user started: the design, or the screening itself."""
        return self.design or self.screen

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a candidate: see :func:`candidate_frame`."""
        return candidate_frame(self)

    def address(self, row: int) -> Address:
        """Return the address of a row."""
        return Address(self.relaxed.uuid, row)

    def requested(self) -> dict[str, Any]:
        """Return the conditions the sequences were asked for: one value, or the list of those used."""
        if self.sequences is None:
            return {}
        table = self.sequences.table
        asked: dict[str, Any] = {}
        for name in table.columns:
            if name.startswith("target."):
                values = list(dict.fromkeys(v for v in table.column(name) if v is not None))
                asked[name.removeprefix("target.")] = values[0] if len(values) == 1 else values
        return asked


def candidate_sets(limit: int | None = None) -> list[CandidateSet]:
    """Return the candidate sets of the profile, newest first."""
    from aiida import orm

    query = orm.QueryBuilder()
    query.append(
        orm.CalcJobNode,
        filters={"process_type": SCREEN, "attributes.exit_status": 0, "attributes.process_state": "finished"},
        tag="screen",
    )
    query.order_by({"screen": {"id": "desc"}})
    again = screenings_of_verifications()
    new = (screen for screen in query.all(flat=True) if screen.uuid not in again)
    return [of_screen(screen) for screen in islice(new, limit)]


def screenings_of_verifications() -> set[str]:
    """Return the uuids of screenings that made no candidates: verifications judge those there are once more."""
    from aiida import orm

    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"process_type": VERIFY}, tag="verify")
    query.append(orm.WorkChainNode, with_incoming="verify", tag="step")
    query.append(orm.CalcJobNode, with_incoming="step", filters={"process_type": SCREEN}, project="uuid")
    return set(query.all(flat=True))


def of_screen(screen: ProcessNode) -> CandidateSet:
    """Return the candidate set a finished screening made."""
    given, made = inputs_of(screen), outputs_of(screen)
    return CandidateSet(
        screen=screen,
        relaxed=given["crystals"],
        table=made["table"],
        unrelaxed=given.get("unrelaxed"),
        sequences=given.get("sequences"),
        reference=given.get("reference"),
        design=_design_above(screen),
    )


def of_process(process: ProcessNode) -> CandidateSet:
    """Return the candidate set of a design, or of a screening; the newest if there are several.

    :raises EmptySet: if it has not made one.
    """
    return screenings_below(process)[-1]


def screenings_below(process: ProcessNode) -> list[CandidateSet]:
    """Return the candidate sets a run has made, oldest first.

    :raises EmptySet: if it has made none.
    """
    if process.process_type == SCREEN:
        if not process.is_finished_ok:
            raise EmptySet(f"The screening {process.pk} has made no table; see `crysgen run status {process.pk}`.")
        return [of_screen(process)]
    below = [n for n in getattr(process, "called_descendants", []) if n.process_type == SCREEN and n.is_finished_ok]
    if not below:
        raise EmptySet(
            f"Process {process.pk} has screened nothing (yet); see `crysgen run status {process.pk}`, and give the pk "
            "of an inverse-design run."
        )
    return [of_screen(screen) for screen in sorted(below, key=lambda n: n.pk or 0)]


def of_address(text: str) -> tuple[CandidateSet, int]:
    """Return the newest candidate set that contains an address, and the row.

    :raises ImpossibleRequest: if the address points at a set that was never screened.
    """
    node, row = resolve(text)
    screens = screenings_of(node)
    if not screens:
        raise ImpossibleRequest(
            f"{text} is a row of a set that was not screened, so it is no candidate; `crysgen row materialize` and "
            "`crysgen candidate trace` take any row."
        )
    return of_screen(screens[-1]), row


def screenings_of(node: PackedData) -> list[ProcessNode]:
    """Return the finished screenings that judged a set of relaxed crystals, oldest first."""
    from aiida import orm

    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": node.uuid}, tag="set")
    query.append(
        orm.CalcJobNode,
        filters={"process_type": SCREEN, "attributes.exit_status": 0},
        with_incoming="set",
        edge_filters={"label": "crystals"},
        tag="screen",
    )
    query.order_by({"screen": {"id": "asc"}})
    return list(query.all(flat=True))


def newest() -> CandidateSet:
    """Return the newest candidate set.

    :raises EmptySet: if there is none.
    """
    found = candidate_sets(limit=1)
    if not found:
        raise EmptySet("This profile has no screened candidates yet; run `crysgen quickstart` or `crysgen design`.")
    return found[0]


def candidate_frame(candidates: CandidateSet) -> pd.DataFrame:
    """Join relaxed crystals, their table and the sequences they came from; one row a judged crystal.

    ``row`` is the row of the relaxed set; ``crystal_row`` and ``sequence_row`` those of its parents. Requested values
    are the columns ``target.<condition>``; they are wishes, never properties.
    """
    import pandas as pd

    from crysgen_aiida.data.ranking import candidate_frame as joined

    frame = joined(candidates.relaxed.table, candidates.table.table)
    parents = pd.Series(candidates.relaxed.table.column("parent_row"), dtype="Int64")
    frame["crystal_row"] = parents.reindex(frame["row"]).to_numpy()
    if candidates.unrelaxed is not None:
        of_crystal = pd.Series(candidates.unrelaxed.table.column("parent_row"), dtype="Int64")
        known = frame["crystal_row"].fillna(-1).astype(int)
        frame["sequence_row"] = of_crystal.reindex(known).to_numpy()
        if candidates.sequences is not None:
            asked = candidates.sequences.table.to_frame()
            columns = [c for c in asked.columns if c.startswith("target.") and c not in frame.columns]
            rows = frame["sequence_row"].fillna(-1).astype(int)
            for column in columns:
                frame[column] = asked[column].reindex(rows).to_numpy()
    frame.insert(0, "address", [candidates.address(int(r)).full for r in frame["row"]])
    return frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries, missing values as None."""
    return [{str(k): None if v is None or v != v else v for k, v in row.items()} for row in frame.to_dict("records")]


def promoted(address: Address) -> list[StructureData]:
    """Return the structures that were promoted from a row."""
    from aiida import orm

    node = load_node(address)
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": node.uuid}, tag="set")
    query.append(orm.CalcFunctionNode, with_incoming="set", tag="call", filters={"attributes.function_name": "promote"})
    query.append(
        orm.StructureData, with_incoming="call", edge_filters={"label": f"structures__r{address.row}"}, tag="structure"
    )
    query.order_by({"structure": {"id": "asc"}})
    return list(query.all(flat=True))


def decisions_of(candidates: CandidateSet) -> tuple[DecisionData | None, int]:
    """Return the ranking a screening's design recorded, or else the newest about it, and how many rows it promoted."""
    from aiida import orm

    from crysgen_aiida.data.packed import DecisionData

    decision = outputs_of(candidates.design).get("decision") if candidates.design is not None else None
    if decision is None:
        query = orm.QueryBuilder().append(orm.Node, filters={"uuid": candidates.table.uuid}, tag="table")
        query.append(orm.CalcFunctionNode, with_incoming="table", tag="call")
        query.append(DecisionData, with_incoming="call", tag="decision")
        query.order_by({"decision": {"id": "desc"}}).limit(1)
        decision = query.first(flat=True)
    if decision is None:
        return None, 0
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": decision.uuid}, tag="decision")
    query.append(
        orm.CalcFunctionNode, with_incoming="decision", tag="call", filters={"attributes.function_name": "promote"}
    )
    query.append(orm.StructureData, with_incoming="call", tag="structure", project=["uuid"])
    return decision, int(query.count())


# -- links ----------------------------------------------------------------------------------------------------------


def inputs_of(process: ProcessNode) -> dict[str, Any]:
    """Return the data nodes a calculation was given, by link label (``__`` between namespace and name)."""
    from aiida.common.links import LinkType

    links = process.base.links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).all()
    return {link.link_label: link.node for link in links}


def outputs_of(process: ProcessNode) -> dict[str, Any]:
    """Return the data nodes a calculation made, by link label."""
    from aiida.common.links import LinkType

    links = process.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return {link.link_label: link.node for link in links}


def creator_of(node: Any) -> Any:
    """Return the calculation that made a node, or None for one that was imported or entered by hand."""
    from aiida.common.links import LinkType

    made_by = node.base.links.get_incoming(link_type=LinkType.CREATE).first()
    return made_by.node if made_by is not None else None


def _design_above(process: ProcessNode) -> ProcessNode | None:
    caller = process.caller
    while caller is not None:
        if caller.process_type == DESIGN:
            return caller  # type: ignore[no-any-return]
        caller = caller.caller
    return None
