"""Which method's value counts for each property, shown and changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.index.models import PropertyColumn, PropertyValue
from crysgen_aiida.store.index.policy import Policy, classify

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index


def standing(index: Index) -> list[dict[str, Any]]:
    """Return each property with its methods in the order in which they win, their class and how many values they gave.

    ``listed`` says whether somebody put the method there; the others follow the rule of classes.
    """
    query = (
        select(PropertyColumn.property, PropertyColumn.method, func.count(PropertyValue.value).label("n"))
        .join(PropertyValue, PropertyValue.column_id == PropertyColumn.id)
        .group_by(PropertyColumn.property, PropertyColumn.method)
    )
    policy = index.policy()
    with index.read() as connection:
        rows = list(connection.execute(query))
    found = [
        {
            "property": row.property,
            "method": row.method,
            "class": classify(row.method),
            "listed": row.method in policy.prefer.get(row.property, ()),
            "values": int(row.n),
        }
        for row in rows
    ]
    return sorted(found, key=lambda r: (r["property"], policy.place(r["property"], r["method"]), r["method"]))


def change_policy(index: Index, texts: Sequence[str], *, reset: bool = False) -> Policy:
    """Change and return the policy of the index; current values are chosen anew.

    :param texts: ``PROPERTY=METHOD,METHOD…``; without methods the property follows the rule of classes again.
    :param reset: forget what was preferred before.
    :raises ImpossibleRequest: for a property or method the index does not hold.
    """
    from crysgen_aiida.store.language.place import suggestion

    prefer = {} if reset else dict(index.policy().prefer)
    known = {name for name, info in index.columns().items() if info.is_property}
    methods = index.methods()
    for text in texts:
        name, equals, listed = text.partition("=")
        name = name.strip()
        if not equals:
            raise ImpossibleRequest(f"{text!r} is no preference; write PROPERTY=METHOD, e.g. band_gap=pbe-mp2020.")
        if name not in known:
            raise ImpossibleRequest(f"The index holds no property {name!r}. {suggestion(name, known)}")
        wanted = tuple(method.strip() for method in listed.split(",") if method.strip())
        for method in wanted:
            if method not in methods:
                raise ImpossibleRequest(
                    f"No value in the index is by the method {method!r}. {suggestion(method, methods)}"
                )
        prefer[name] = wanted
    policy = Policy({name: wanted for name, wanted in prefer.items() if wanted})
    index.set_policy(policy)
    return policy
