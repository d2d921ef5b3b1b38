"""Find the node a user means: by pk, by the beginning of its uuid, or by its label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aiida.orm import Node


def load(text: str, kind: type[Node] | tuple[type[Node], ...], what: str) -> Any:
    """Return the node that ``text`` names.

    :param kind: the class (or classes) it must be of.
    :param what: what to call it in an error, e.g. ``data set``.
    :raises click.ClickException: if there is none, it is of another kind, or the label is ambiguous.
    """
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    kinds = kind if isinstance(kind, tuple) else (kind,)
    found: list[Any] = []
    for one in kinds:
        query = orm.QueryBuilder().append(one, filters={"label": text}, tag="node")
        found += query.order_by({"node": {"id": "desc"}}).all(flat=True)
    if len(found) > 1:
        pks = ", ".join(str(n.pk) for n in found[:5])
        raise click.ClickException(f"Several nodes are labelled {text!r} (pk {pks}); give a pk or uuid.")
    if found:
        return found[0]
    try:
        node = orm.load_node(text)
    except NotExistent:
        raise click.ClickException(
            f"There is no {what} {text!r} in this profile; give its pk, the beginning of its uuid, or its label."
        ) from None
    except (MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"{text!r} does not name one {what}: {error}") from None
    if not isinstance(node, kinds):
        raise click.ClickException(f"Node {text} is a {type(node).__name__}, not a {what}.")
    return node


def newest(kind: type[Node], what: str, remedy: str) -> Any:
    """Return the newest node of a class.

    :raises click.ClickException: if there is none.
    """
    from aiida import orm

    query = orm.QueryBuilder().append(kind, tag="node").order_by({"node": {"id": "desc"}}).limit(1)
    node = query.first(flat=True)
    if node is None:
        raise click.ClickException(f"This profile holds no {what}; {remedy}")
    return node


def summary(node: Any) -> dict[str, Any]:
    """Return what a list says of a packed set or generator."""
    return {"pk": node.pk, "uuid": node.uuid[:8], "label": node.label, "created": node.ctime.strftime("%Y-%m-%d %H:%M")}
