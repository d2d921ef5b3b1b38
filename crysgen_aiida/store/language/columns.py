"""What the columns of a query are in the index: SQL expressions, kinds and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, select, union_all

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.index.models import PropertyColumn, PropertyValue
from crysgen_aiida.store.index.policy import CLASSES, Policy, classify
from crysgen_aiida.store.index.wide import ELEMENT_BITS, method_column, sigma_column
from crysgen_aiida.store.language.nodes import Column, MethodOf, Operand, SigmaOf
from crysgen_aiida.store.language.place import shown, suggestion

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import ColumnInfo, Index

NUMBER, WHOLE, FLAG, TEXT, METHOD = "number", "whole", "flag", "text", "method"

#: Names that mean something in a query without being columns of the index.
SPECIAL = ("elements",)


@dataclass(frozen=True)
class Resolved:
    """A column of a query.

    :param kind: number, whole, flag, text or method.
    :param value: its value, or for a method its number in the list of methods.
    """

    name: str
    kind: str
    unit: str | None
    value: ColumnElement[Any]

    @property
    def is_number(self) -> bool:
        """Say whether its values can be ordered."""
        return self.kind in (NUMBER, WHOLE)


class _Source(NamedTuple):
    """A column of values in the table of all values."""

    id: int
    method: str
    of_batch: bool


class _Chosen(NamedTuple):
    """Value, method number and uncertainty of a property under the policy of a query."""

    value: ColumnElement[Any]
    method: ColumnElement[Any]
    sigma: ColumnElement[Any]


class Columns:
    """The columns of one index, as a query may name them.

    :param prefer: property to the methods, or classes of methods, that stand for it in this query.
    :param connection: the reading to look things up in, so that a query sees one state of the index.
    :raises ImpossibleRequest: if ``prefer`` names an unknown property or method.
    """

    def __init__(
        self,
        index: Index,
        prefer: Mapping[str, str | Sequence[str]] | None = None,
        connection: Connection | None = None,
    ) -> None:
        self.index = index
        self.connection = connection
        self.infos: Mapping[str, ColumnInfo] = index.columns(connection)
        self.wide = index.wide(connection)
        self.prefer: dict[str, dict[str, int]] = {}  #: property to method to place, the smaller wins
        self._sources: dict[str, list[_Source]] = {}
        for name, wanted in (prefer or {}).items():
            if name not in self.infos or not self.infos[name].is_property:
                known = [n for n, info in self.infos.items() if info.is_property]
                raise ImpossibleRequest(f"There is no property {shown(name)} to prefer. {suggestion(name, known)}")
            places: dict[str, tuple[int, ...]] = {}
            for n, method in enumerate([wanted] if isinstance(wanted, str) else wanted):
                called = self.methods_called(method)
                if called is None:
                    hint = suggestion(method, self.methods)
                    raise ImpossibleRequest(f"No value in the index is by the method {shown(method)}. {hint}")
                for one in called:
                    places.setdefault(one, (n, *self.policy.place(name, one)))
            self.prefer[name] = _ranked(places)

    @cached_property
    def methods(self) -> list[str]:
        """The methods of the index, at the position by which ``current`` knows them."""
        return list(self.index.methods(self.connection))

    @cached_property
    def policy(self) -> Policy:
        """The policy of the index."""
        return self.index.policy(self.connection)

    def methods_called(self, name: str) -> list[str] | None:
        """Return the methods a name means: one, or all of a class (``dft``). None if there is no such."""
        if name in self.methods:
            return [name]
        if name.lower() in CLASSES:
            return [m for m in self.methods if classify(m) == name.lower()]
        return None

    def elements(self) -> tuple[ColumnElement[int], ...]:
        """Return the two columns of element bits."""
        return tuple(self.wide.c[name] for name in ELEMENT_BITS)

    def resolve(self, operand: Operand) -> Resolved:
        """Return what a column of a query is.

        :raises ImpossibleRequest: if the index has no such column, or it is no property where one is needed.
        """
        info = self._info(operand)
        if isinstance(operand, Column) and operand.method is None:
            if operand.name in self.prefer:
                return Resolved(operand.name, info.kind, info.unit, self._preferred(operand.name).value)
            return Resolved(operand.name, info.kind, info.unit, self.wide.c[operand.name])
        if not info.is_property:
            raise operand.place.impossible(
                f"{operand.name} is no property: its values have no method and no uncertainty. "
                f"{suggestion(operand.name, [n for n, i in self.infos.items() if i.is_property])}"
            )
        if isinstance(operand, MethodOf):
            column = self._preferred(operand.name).method
            return Resolved(f"method({operand.name})", METHOD, None, column)
        if operand.method is None:
            return Resolved(f"sigma({operand.name})", NUMBER, info.unit, self._preferred(operand.name).sigma)
        places = {m: self.policy.place(operand.name, m) for m in self._called(operand)}
        chosen = self._by_methods(operand.name, _ranked(places), otherwise=False)
        if isinstance(operand, SigmaOf):
            return Resolved(f"sigma({operand.name}['{operand.method}'])", NUMBER, info.unit, chosen.sigma)
        return Resolved(f"{operand.name}['{operand.method}']", info.kind, info.unit, chosen.value)

    def _info(self, operand: Operand) -> ColumnInfo:
        if operand.name in self.infos:
            return self.infos[operand.name]
        if operand.name in SPECIAL:
            raise operand.place.impossible(
                "Write what the elements are to be: elements has Bi, elements has any (Bi, Pb), elements only (Bi, O)."
            )
        raise operand.place.impossible(
            f"There is no column {shown(operand.name)}. {suggestion(operand.name, self.infos)}"
        )

    def _called(self, operand: Column | SigmaOf) -> list[str]:
        method = str(operand.method)
        called = self.methods_called(method)
        held = {s.method for s in self._sources_of(operand.name)}
        if called is None:
            hint = suggestion(method, held)
            raise operand.place.impossible(f"No value of {operand.name} is by the method {shown(method)}. {hint}")
        return called

    # -- values by method ---------------------------------------------------------------------------------------------

    def _preferred(self, name: str) -> _Chosen:
        if name in self.prefer:
            return self._by_methods(name, self.prefer[name], otherwise=True)
        wide = self.wide.c
        return _Chosen(wide[name], wide[method_column(name)], wide[sigma_column(name)])

    def _by_methods(self, name: str, places: Mapping[str, int], otherwise: bool) -> _Chosen:
        """Return a property by the best of some methods that has a value, or else its current value if wanted.

        Among methods of one place the newest source wins. Where the current value is by the best of them it is used,
        because it is the newest. All others are looked up among all values, row by row, which is slower.
        """
        wide = self.wide.c
        current = _Chosen(wide[name], wide[method_column(name)], wide[sigma_column(name)])
        sources = [s for s in self._sources_of(name) if s.method in places]
        if not sources:
            nothing = _Chosen(*(literal(None, column.type) for column in current))
            return current if otherwise else nothing
        # a current value is the best of all by the policy, so of any methods; of others only if nothing comes before
        sure = [n for n, m in enumerate(self.methods) if m in places and (not otherwise or not places[m])]
        is_current = current.method.in_(sure)
        found = self._looked_up(name, sources, places)
        if otherwise:
            found = _Chosen(
                func.coalesce(found.value, current.value),
                func.coalesce(found.method, current.method),
                case((found.method.is_not(None), found.sigma), else_=current.sigma),
            )
        return _Chosen(*(case((is_current, c), else_=f) for c, f in zip(current, found, strict=True)))

    def _looked_up(self, name: str, sources: Sequence[_Source], places: Mapping[str, int]) -> _Chosen:
        """Return scalar subqueries: the best method first, then the newest source, as the policy has it."""
        column, value = PropertyColumn.__table__.c, PropertyValue.__table__.c
        wide = self.wide
        numbers = {m: n for n, m in enumerate(self.methods)}
        held = [s.method for s in sources]
        place = case({m: places[m] for m in dict.fromkeys(held)}, value=column.method)
        number = case({m: numbers[m] for m in dict.fromkeys(held)}, value=column.method)

        def of(what: ColumnElement[Any]) -> ColumnElement[Any]:
            base = (
                select(what.label("what"), place.label("place"), column.created, column.source_uuid)
                .join_from(PropertyColumn.__table__, PropertyValue.__table__, column.id == value.column_id)
                .where(value.candidate_id == wide.c.candidate_id)
                .correlate(wide)
            )
            parts = []
            if any(s.of_batch for s in sources):
                of_batch = (column.property == name, column.method.in_(list(dict.fromkeys(held))))
                parts.append(base.where(column.batch_id == wide.c.batch_id, *of_batch))
            results = [s.id for s in sources if not s.of_batch]
            if results:
                parts.append(base.where(column.id.in_(results)))
            every = union_all(*parts).subquery() if len(parts) > 1 else parts[0].subquery()
            order = (every.c.place, every.c.created.desc(), every.c.source_uuid.desc())
            return select(every.c.what).order_by(*order).limit(1).correlate(wide).scalar_subquery()

        return _Chosen(of(value.value), of(number), of(value.sigma))

    def _sources_of(self, name: str) -> list[_Source]:
        """Return the columns of all values of a property that are in its own unit."""
        if name not in self._sources:
            column = PropertyColumn.__table__.c
            asked = select(column.id, column.method, column.batch_id).where(
                and_(column.property == name, column.unit == self.infos[name].unit)
            )
            with nullcontext(self.connection) if self.connection else self.index.read() as connection:
                rows = connection.execute(asked).all()
            self._sources[name] = [_Source(r.id, r.method, r.batch_id is not None) for r in rows]
        return self._sources[name]


def _ranked(places: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the places as numbers from 0; equal places stay equal."""
    order = sorted(set(places.values()))
    return {method: order.index(place) for method, place in places.items()}
