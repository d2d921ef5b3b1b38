"""One self-contained HTML page about a design: no network, no script, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.cli.drawing import COMPARED, DESIGNED, crystal_svg, funnel_svg, histogram_svg, table_html
from crysgen_aiida.cli.output import readable

if TYPE_CHECKING:
    from crysgen_aiida.cli.starter import Starter
    from crysgen_aiida.store.candidates import CandidateSet

#: What a card says of a candidate: column, words, unit.
_SHOWN = (
    ("e_above_reference", "above ref. ≥", "eV/atom"),
    ("formation_energy_per_atom", "formation energy", "eV/atom"),
    ("band_gap", "gap, surrogate", "eV"),
    ("space_group_loose", "space group", ""),
    ("n_atoms", "atoms", ""),
    ("density", "density", "g/cm³"),
)


def write_report(
    path: Path, process: Any, found: CandidateSet, best: Sequence[Mapping[str, Any]], starter: Starter
) -> None:
    """Write the page. The same run gives the same bytes: it holds no clock time but the run's own."""
    from crysgen_aiida.crystals.files import write_text

    write_text(path, report_html(process, found, best, starter))


def report_html(process: Any, found: CandidateSet, best: Sequence[Mapping[str, Any]], starter: Starter) -> str:
    """Return the page."""
    from crysgen_aiida import __version__
    from crysgen_aiida.store import trace

    asked = ", ".join(f"{name} = {readable(value)}" for name, value in found.requested().items())
    metadata = found.table.metadata
    template = Template((resources.files("crysgen_aiida.cli") / "report.html").read_text(encoding="utf8"))
    return template.substitute(
        title=escape(f"Crystals designed for {asked}"),
        lead=escape(
            f"{found.sequences.n_rows if found.sequences else 0} strings were sampled, decoded, relaxed with "
            f"{_potential(found)} and judged by the protocol {_protocol(metadata)}. Run {process.uuid[:8]} of "
            f"{process.ctime.strftime('%Y-%m-%d')}."
        ),
        caveat=escape(
            f"Energies above {metadata.get('reference', 'the reference')} are lower bounds on the energy above the "
            "hull: a phase the reference does not hold can only raise them. Requested values are wishes; nothing here "
            "computes a piezoelectric coefficient."
        ),
        funnel=funnel_svg(funnel(process, found, len(best))),
        n_best=len(best),
        cards="".join(_card(record, found) for record in best),
        legend=(
            f'<span><i style="background:{COMPARED}"></i>starter set ({starter.dataset.n_rows})</span>'
            f'<span><i style="background:{DESIGNED}"></i>designed and relaxed '
            f"({int((found.frame['status'] == 'ok').sum())})</span>"
        ),
        charts="".join(f'<section class="box">{chart}</section>' for chart in _charts(found, starter) if chart),
        support=table_html(_support(found, starter)),
        rates_note=escape("Each rate with its numerator, its denominator and the 95 % interval of Wilson."),
        rates=table_html(rates(metadata.get("aggregates"))),
        trace=escape(trace.render(trace.trace(str(best[0]["address"])))) if best else "",
        footer=escape(
            f"crysgen-aiida {__version__}. Generator {starter.generator.uuid}, reference {starter.reference.uuid}, "
            f"data set {starter.dataset.uuid}, table {found.table.uuid}."
        ),
    )


def funnel(process: Any, found: CandidateSet, n_best: int) -> list[tuple[str, int]]:
    """Return how many were left after each step, from what was sampled to promoted structures."""
    frame = found.frame
    relaxed = frame[frame["status"] == "ok"]
    steps: list[tuple[str, int]] = []
    if found.sequences is not None:
        steps += [("sampled", found.sequences.n_rows), ("accepted", found.sequences.n_ok)]
    if found.unrelaxed is not None:
        steps.append(("decoded", found.unrelaxed.n_ok))
        whole = found.unrelaxed.table.ok
        tried = [s != "skipped" and whole[int(r)] for s, r in zip(frame["status"], frame["crystal_row"], strict=True)]
        steps.append(("chosen to relax", sum(tried)))
    steps.append(("relaxed", len(relaxed)))
    for column, words in (("valid_structure", "structure valid"), ("valid_composition", "composition valid"),
                          ("unique", "unique"), ("novel", "not in the starter set")):  # fmt: skip
        if column in relaxed.columns:
            relaxed = relaxed[relaxed[column].fillna(False).astype(bool)]
            steps.append((words, len(relaxed)))
    return [*steps, ("promoted", n_best)]


def rates(aggregates: Any) -> list[dict[str, Any]]:
    """Return the rates of a table as rows."""
    rows = []
    for name, held in (aggregates or {}).items():
        if not isinstance(held, Mapping) or "denominator" not in held:
            continue
        low, high = (held.get("wilson95") or (None, None))[:2]
        value = held.get("value", held.get("rate"))
        if value is None and held["denominator"]:
            value = held["numerator"] / held["denominator"]
        share = f"{100 * value:.1f} %" if isinstance(value, (int, float)) else None
        interval = f"{100 * low:.1f} – {100 * high:.1f} %" if low is not None and high is not None else None
        rows.append(
            {"rate": name, "value": share, "of": f"{held['numerator']} / {held['denominator']}", "95 %": interval}
        )
    return rows


def _card(record: Mapping[str, Any], found: CandidateSet) -> str:
    crystal = found.relaxed.get(int(record["row"]))
    picture = crystal_svg(crystal["lattice"], crystal["numbers"], crystal["frac_coords"])
    uuid, _, row = str(record["address"]).partition(":")
    facts = "".join(
        f"<dt>{escape(words)}</dt><dd>{escape(readable(record.get(column)))} {escape(unit)}</dd>"
        for column, words, unit in _SHOWN
        if record.get(column) is not None
    )
    facts += f"<dt>address</dt><dd>{escape(uuid[:8])}:{escape(row)}</dd>"
    title = f"<b>{_subscripts(str(record['reduced_formula']))}</b><span>{int(record['rank'])}</span>"
    return f'<article class="card"><h3>{title}</h3>{picture}<dl>{facts}</dl></article>'


def _subscripts(formula: str) -> str:
    import re

    return re.sub(r"(\d+(?:\.\d+)?)", r"<sub>\1</sub>", escape(formula))


def _charts(found: CandidateSet, starter: Starter) -> list[str]:
    """Return histograms of what both sets have; energies and gaps name the method of each side."""
    designed = found.frame[found.frame["status"] == "ok"]
    data, table = starter.dataset.table, found.table.table
    charts = []
    for name, label in (("formation_energy_per_atom", "formation energy [eV/atom]"), ("band_gap", "band gap [eV]")):
        if name in data.columns and name in designed.columns:
            here, there = table.method(name) if name in table.columns else None, data.method(name)
            values = {"starter": data.values(name), "designed": designed[name].to_numpy(dtype=float)}
            charts.append(histogram_svg(values, label, f"starter: {there}, designed: {here}"))
    volumes, sizes, kinds = _geometry(data)
    if "volume_per_atom" in designed.columns:
        values = {"starter": volumes, "designed": designed["volume_per_atom"].to_numpy(dtype=float)}
        charts.append(histogram_svg(values, "volume [Å³/atom]"))
    held = [found.relaxed.get(int(row))["numbers"] for row in designed["row"]]
    ours = np.array([len(numbers) for numbers in held], dtype=float)
    charts.append(histogram_svg({"starter": sizes, "designed": ours}, "atoms in the cell", discrete=True))
    ours = np.array([len(set(numbers)) for numbers in held], dtype=float)
    charts.append(histogram_svg({"starter": kinds, "designed": ours}, "elements", discrete=True))
    return charts


def _geometry(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return volume per atom [A^3], atoms and number of elements of each crystal of a set."""
    held = [(lat, num) for lat, num in zip(data.column("lattice"), data.column("numbers"), strict=True) if lat]
    cells = np.array([lat for lat, _ in held], dtype=float).reshape(-1, 3, 3)
    sizes = np.array([len(num) for _, num in held], dtype=float)
    kinds = np.array([len(set(num)) for _, num in held], dtype=float)
    return np.abs(np.linalg.det(cells)) / sizes, sizes, kinds


def _support(found: CandidateSet, starter: Starter) -> list[dict[str, Any]]:
    from crysgen_aiida.crystals.properties import PROPERTIES
    from crysgen_aiida.store.support import support, training_set_of

    training = training_set_of(starter.generator)
    if training is None:
        return []
    rows = []
    for record in support(training.to_frame(), found.requested()):
        name = record["condition"]
        rows.append(
            {
                "condition": name,
                "target": record["target"],
                "unit": PROPERTIES[name].unit if name in PROPERTIES else "",
                "near it": record.get("near"),
                "at or beyond it": record.get("beyond"),
                "labelled": record.get("labelled"),
                "percentile": record.get("percentile"),
                "lowest": record.get("min"),
                "median": record.get("median"),
                "highest": record.get("max"),
                "note": record.get("note", ""),
            }
        )
    return rows


def _potential(found: CandidateSet) -> str:
    potential = found.relaxed.metadata.get("potential")
    if isinstance(potential, Mapping):
        return str(potential.get("method") or potential.get("name") or "a potential")
    return str(potential or "a potential")


def _protocol(metadata: Mapping[str, Any]) -> str:
    protocol = metadata.get("protocol")
    return str(protocol.get("name", "unnamed")) if isinstance(protocol, Mapping) else str(protocol)
