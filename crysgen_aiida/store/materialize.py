"""Make a node of one row, once."""

from __future__ import annotations

from typing import Any

from crysgen_aiida.store.address import Address, resolve


def materialize_row(text: str) -> tuple[Address, Any, bool]:
    """Return the address of a row, its node, and whether the node was made now.

    :raises ImpossibleRequest: if the address points nowhere.
    """
    from aiida import orm

    from crysgen_aiida.calculations.functions import materialize

    node, row = resolve(text)
    address = Address(node.uuid, row)
    held = _held(node, row)
    if held is not None:
        return address, held, False
    made = materialize(node, orm.Int(row))
    return address, made[next(iter(made))] if isinstance(made, dict) else made, True


def _held(node: Any, row: int) -> Any:
    from aiida import orm

    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": node.uuid}, tag="set")
    query.append(
        orm.CalcFunctionNode,
        filters={"attributes.function_name": "materialize", "attributes.exit_status": 0},
        with_incoming="set",
        tag="call",
    )
    query.append(orm.Int, with_outgoing="call", edge_filters={"label": "row"}, filters={"attributes.value": row})
    query.append(orm.Data, with_incoming="call", tag="made", project=["*"])
    return query.first(flat=True)
