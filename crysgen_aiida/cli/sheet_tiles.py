"""From rows to tiles of a sheet: of a set of crystals, of addresses, or of a ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.cli.output import readable
from crysgen_aiida.cli.sheet import Fact, Tile, word_of
from crysgen_aiida.crystals.errors import BadInput, CrysgenError, EmptySet, ImpossibleRequest
from crysgen_aiida.store.requested import TARGET, requested

if TYPE_CHECKING:
    from crysgen_aiida.data.ordering import Objective
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.selection import RankedSelection

#: How far atoms may be from their ideal places for a space group [A]: the looser of the two that screening uses.
SYMPREC = 0.1

#: Properties of candidates that are shown if nobody chooses, besides those that were asked for.
USUAL = ("e_above_reference", "formation_energy_per_atom", "band_gap")

#: How many properties a tile has if nobody chooses.
_FEW = 5

#: What is said of wishes on every sheet that has some.
WISHES = "What was asked for is a wish; – means that nothing here computed the value."


def parse_rows(text: str, n_rows: int) -> list[int]:
    """Return the rows that ``0-5,9`` names, in that order.

    :raises BadInput: if it is not written like that.
    :raises ImpossibleRequest: if a set of ``n_rows`` rows has no such row.
    """
    rows: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise BadInput(f"{part.strip()!r} names no rows; write for example 0-11,40.")
        low, high = int(first), int(last or first)
        if low > high or high >= n_rows:
            raise ImpossibleRequest(f"There are no rows {part.strip()}: this set has rows 0 to {n_rows - 1}.")
        rows += range(low, high + 1)
    return list(dict.fromkeys(rows))


def dataset_tiles(node: CrystalSetData, rows: Sequence[int], shown: Sequence[str]) -> tuple[list[Tile], list[str]]:
    """Return the tiles of rows of a set, and notes about their numbers.

    :param shown: property columns to show; by default those that were asked for and the first that have values.
    :raises EmptySet: if there are no rows.
    :raises ImpossibleRequest: if a column is not there.
    """
    if not rows:
        raise EmptySet(f"The set {node.label or node.uuid[:8]} has no rows, so there is nothing to draw.")
    taken = node.table.take(rows)
    stats = taken.column_stats()
    strangers = sorted(set(shown) - set(stats))
    if strangers:
        there = ", ".join(stats) or "none"
        raise ImpossibleRequest(f"This set has no property {', '.join(strangers)}; it has {there}.")
    wishes = requested(node, rows)
    asked = list(dict.fromkeys(name for wish in wishes for name in wish))
    usual = list(dict.fromkeys([*asked, *(name for name, stat in stats.items() if stat["n_valid"])]))
    names = list(shown) or usual[: max(_FEW, len(asked))]
    tiles = [
        _tile(f"{node.uuid[:8]}:{row}", f"row {row}", record, names, wish)
        for row, record, wish in zip(rows, taken.iter(), wishes, strict=True)
    ]
    methods = {name: {taken.method(name)} for name in names if name in stats}
    return tiles, _notes(methods, any(wishes))


def candidate_columns(index: Index, ordered: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return which columns of the index the tiles of candidates need.

    :param ordered: what the ranking orders by.
    :param shown: columns that were chosen.
    :raises ImpossibleRequest: if no candidate has, and none was asked for, what was chosen.
    """
    kinds = index.columns()
    strangers = [name for name in shown if name not in kinds and TARGET + name not in kinds]
    if strangers:
        raise ImpossibleRequest(f"No candidate of the index has a column {', '.join(strangers)}.")
    wishes = [name for name in kinds if name.startswith(TARGET)]
    found = dict.fromkeys([*shown, *USUAL, *(name.removeprefix(TARGET) for name in wishes)])
    there = [name for name in found if name in kinds]
    methods = [f"method({name})" for name in there if kinds[name].is_property]
    return list(dict.fromkeys(["reduced_formula", *there, *ordered, *methods, *wishes]))


def ranked_tiles(ranked: RankedSelection, ordered: Sequence[str], shown: Sequence[str]) -> tuple[list[Tile], list[str]]:
    """Return the tiles of a ranking in its order, and notes about their numbers.

    :param ranked: with the columns of :func:`candidate_columns`.
    :raises EmptySet: if nothing was ranked.
    """
    records = ranked.records()
    if not records:
        raise EmptySet(ranked.emptied or "No candidate meets all constraints, so there is nothing to draw.")
    return _candidates(records, ordered, shown)


def addressed_tiles(index: Index, addresses: Sequence[str], shown: Sequence[str]) -> tuple[list[Tile], list[str]]:
    """Return the tiles of candidates named by address, and notes about their numbers.

    :raises ImpossibleRequest: if an address is no candidate of the index, or as :func:`candidate_columns` says.
    """
    from crysgen_aiida.store.explain.show import show

    candidate_columns(index, (), shown)
    records = []
    for text in addresses:
        found = show(index, text, graph=False)
        record = {name: fact["value"] for name, fact in found["facts"].items()}
        record |= {"address": found["address"], "reduced_formula": found["reduced_formula"]}
        for held in found["properties"]:
            if held["current"]:
                record |= {held["property"]: held["value"], f"method({held['property']})": held["method"]}
        records.append(record | {TARGET + name: value for name, value in found["requested"].items()})
    return _candidates(records, (), shown)


def ordered_by(objectives: Sequence[Objective]) -> str:
    """Return what a ranking orders by, as words."""
    words = {"lower": "lowest {0}", "higher": "highest {0}", "target": "{0} nearest to {1}"}
    return ", ".join(words[wish.direction].format(wish.column, readable(wish.target)) for wish in objectives)


def counted(tiles: Sequence[Tile]) -> str:
    """Return how many of the tiles hold a crystal, as words."""
    n = sum(tile.crystal is not None for tile in tiles)
    return "all hold a crystal" if n == len(tiles) else f"{n} of {len(tiles)} hold a crystal"


def _candidates(
    records: Sequence[Mapping[str, Any]], ordered: Sequence[str], shown: Sequence[str]
) -> tuple[list[Tile], list[str]]:
    """Return the tiles of candidates with their full ``address``, values, ``method(x)`` and ``target.x``."""
    wishes = [
        {name.removeprefix(TARGET): value for name, value in record.items()
         if name.startswith(TARGET) and value is not None}
        for record in records
    ]  # fmt: skip
    asked = list(dict.fromkeys(name for wish in wishes for name in wish))
    known = [name for name in (*ordered, *USUAL) if any(record.get(name) is not None for record in records)]
    names = list(shown) or list(dict.fromkeys([*asked, *known]))[: max(_FEW, len(asked))]
    methods = {name: {record.get(f"method({name})") for record in records} for name in names}
    tiles = []
    for record, crystal, wish in zip(records, _crystals(records), wishes, strict=True):
        uuid, _, row = str(record["address"]).partition(":")
        place = f"rank {record['rank']}" if "rank" in record else ""
        tiles.append(_tile(f"{uuid[:8]}:{row}", place, {**record, **crystal}, names, wish))
    return tiles, _notes(methods, any(wishes))


def _crystals(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return status, reason and crystal of each candidate; each set is opened once."""
    from crysgen_aiida.store.address import Address, load_node

    wanted = ("lattice", "numbers", "frac_coords", "status", "reason")
    sets: dict[str, Any] = {}
    found = []
    for record in records:
        address = Address.parse(str(record["address"]))
        if address.uuid not in sets:
            sets[address.uuid] = load_node(address).table
        row = sets[address.uuid].get(address.row)
        found.append({name: row[name] for name in wanted})
    return found


def _tile(address: str, place: str, record: Mapping[str, Any], names: Sequence[str], wish: Mapping[str, Any]) -> Tile:
    from crysgen_aiida.crystals.properties import PROPERTIES

    crystal = None
    if record["lattice"] is not None:
        crystal = {name: record[name] for name in ("lattice", "numbers", "frac_coords")}
    group, system = _symmetry(crystal)
    found = {**record, "space_group": group[1] if group else None, "crystal_system": system}
    facts = tuple(
        Fact(name, PROPERTIES[name].unit if name in PROPERTIES else "", found.get(name), wish.get(name))
        for name in names
        if crystal is not None or wish.get(name) is not None
    )
    status, reason = str(record["status"]), str(record["reason"] or "")
    return Tile(address, place, str(record["reduced_formula"] or ""), crystal, status, reason, group, facts)


def _symmetry(crystal: Mapping[str, Any] | None) -> tuple[tuple[str, int] | None, str | None]:
    import numpy as np

    from crysgen_aiida.crystals.symmetry import cell_symmetry

    if crystal is None:
        return None, None
    lattice, frac = np.reshape(crystal["lattice"], (3, 3)), np.reshape(crystal["frac_coords"], (-1, 3))
    try:
        found = cell_symmetry(lattice, frac, crystal["numbers"], SYMPREC)
    except CrysgenError:  # atoms on top of each other have none
        return None, None
    return (found.symbol, found.number), found.crystal_system


def _notes(methods: Mapping[str, Iterable[str | None]], wishes: bool) -> list[str]:
    """Return what must be known to read the numbers: methods, tolerance, and what a wish is."""
    by: dict[str, list[str]] = {}
    for name, used in methods.items():
        for method in sorted(method for method in used if method):
            by.setdefault(method, []).append(word_of(name))
    values = "; ".join(f"{', '.join(names)} by {method}" for method, names in by.items())
    said = f"Space groups at {SYMPREC:g} Å."
    return [f"{said} Values: {values}." if values else said, *([WISHES] if wishes else [])]
