"""What is wanted of candidates, as options of a command: the same for ranking, explaining and saving a query."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crysgen_aiida.data.ranking import Query
    from crysgen_aiida.store.explain.runs import Run

_OPTIONS = (
    click.option("--where", multiple=True, metavar="FILTER", help="Constraint, e.g. 'band_gap > 1.5 and elements has "
                 "Bi'; may be repeated, all must hold."),
    click.option("--minimize", multiple=True, metavar="COLUMN", help="Column to have low; may be repeated."),
    click.option("--maximize", multiple=True, metavar="COLUMN", help="Column to have high; may be repeated."),
    click.option("--target", multiple=True, metavar="COLUMN=VALUE", help="Column to have near a value; may be "
                 "repeated."),
    click.option("--method", default="weighted", show_default=True, help="weighted, pareto or lexicographic."),
    click.option("--confidence", type=float, metavar="K", help="Rank by the worse end of value ± K standard "
                 "uncertainties."),
    click.option("--sigma", multiple=True, metavar="COLUMN=VALUE", help="Standard uncertainty to assume where none is "
                 "known, with --confidence; may be repeated."),
    click.option("--diverse", multiple=True, metavar="WHAT=N", help="At most N ranked candidates of one formula, "
                 "elements or structure; may be repeated."),
    click.option("--prefer", multiple=True, metavar="PROPERTY=METHOD", help="Method whose values count, against the "
                 "policy; may be repeated."),
    click.option("--all", "from_scratch", is_flag=True, help="Start from all rows, not from the run's own ranking "
                 "rule."),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The options as they were given."""

    where: tuple[str, ...]
    minimize: tuple[str, ...]
    maximize: tuple[str, ...]
    target: tuple[str, ...]
    method: str
    confidence: float | None
    sigma: tuple[str, ...]
    diverse: tuple[str, ...]
    prefer: tuple[str, ...]
    from_scratch: bool

    def preferred(self) -> dict[str, str] | None:
        """Return property to method, None if nothing is preferred."""
        from crysgen_aiida.cli.settings import flat

        return {name: str(method) for name, method in flat(self.prefer).items()} or None

    def query(self, run: Run | None) -> Query:
        """Return the rule: that of the run with these options laid over it. Filters stay text, see :attr:`where`.

        :param run: None to start from all rows.
        """
        from crysgen_aiida.store.ranking import DEFAULT

        base = None
        if run is not None and not self.from_scratch:
            base = DEFAULT if run.ranking is None else run.ranking
        return self.over(base)

    @property
    def anything(self) -> bool:
        """Whether any option was given."""
        held = dataclasses.asdict(self)
        return held.pop("method") != "weighted" or held.pop("confidence") is not None or any(held.values())

    def over(self, base: Mapping[str, Any] | None) -> Query:
        """Return the rule with these options laid over ``base``."""
        from crysgen_aiida.cli.settings import flat
        from crysgen_aiida.store.ranking import build_query

        query = build_query(
            minimize=self.minimize, maximize=self.maximize, target=_numbers(self.target), method=self.method, base=base
        )
        query = dataclasses.replace(query, limit=None)
        if self.confidence is not None or self.sigma:
            query = self._uncertain(query)
        if self.diverse:
            query = type(query).from_dict({**query.to_dict(), "diversity": flat(self.diverse)})
        return query

    def _uncertain(self, query: Query) -> Query:
        """Return a rule whose objectives count uncertainties."""
        assumed = _numbers(self.sigma)
        strangers = sorted(set(assumed) - {o.column for o in query.objectives})
        if self.confidence is None or strangers:
            what = f"nothing is ordered by {', '.join(strangers)}" if strangers else "--confidence is missing"
            raise click.UsageError(f"--sigma says what to assume of a column that is ordered by: {what}.")
        wishes = tuple(
            dataclasses.replace(o, confidence=self.confidence, sigma=assumed.get(o.column, o.sigma))
            for o in query.objectives
        )
        # read again, because what is laid over was not checked yet
        return type(query).from_dict(dataclasses.replace(query, objectives=wishes).to_dict())


def _numbers(texts: tuple[str, ...]) -> dict[str, float]:
    """Return ``{name: number}`` of texts like ``band_gap=2.0``.

    :raises ImpossibleRequest: if one is no number, or a name is given twice.
    """
    from crysgen_aiida.cli.settings import flat
    from crysgen_aiida.crystals.errors import ImpossibleRequest

    numbers: dict[str, float] = {}
    for name, value in flat(texts).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ImpossibleRequest(f"{name}={value} names no number; write for example {name}=2.0.")
        numbers[name] = float(value)
    return numbers


def query_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which candidates are wanted in what order, handed to the command as ``asked``."""
    import functools

    names = [field.name for field in dataclasses.fields(Asked)]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, asked=Asked(**{name: kwargs.pop(name) for name in names}), **kwargs)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper
