"""``crysgen potential``: which potentials there are, and whether one does what it should on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, emit_record, format_option

if TYPE_CHECKING:
    from crysgen_aiida.physics.potentials import LoadedPotential

#: What tests a potential brings torch along, which this program otherwise does without: it is loaded when asked for.
_TESTS = "crysgen_aiida.physics.potential_tests"


@click.group("potential", cls=VerdiCommandGroup)
def potential() -> None:
    """List and test interatomic potentials."""


@potential.command("list")
@format_option
def list_(fmt: str) -> None:
    """List the potentials that can be asked for, those of plug-ins among them."""
    from crysgen_aiida.physics.judges import CONTROLS
    from crysgen_aiida.physics.potentials import potentials

    rows = []
    for info in potentials().values():
        control = CONTROLS.get(info.method)
        rows.append(
            {
                "name": info.name,
                "version": info.version,
                "installed": info.missing() is None,
                "conservative": info.conservative,
                "schemes": list(info.schemes),
                "stable": None if control is None else f"{control.stable} of {control.n}",
                "elements": info.n_elements,
                "licence": info.licence,
                "citation": info.citation,
            }
        )
    if fmt != "table":
        for row, info in zip(rows, potentials().values(), strict=True):
            row |= {"method": info.method, "energies": info.energies, "install": info.install}
            row["missing"] = info.missing()
    emit(rows, fmt)
    if fmt == "table":
        click.echo(
            "\nstable: of crystals known to exist, those it calls dynamically stable (docs/results/potentials.md)"
        )


@potential.command("test")
@click.argument("name")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the processor.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@format_option
@click.pass_context
def test(ctx: click.Context, name: str, threads: int, device: str, fmt: str) -> None:
    """Test the potential NAME here: are forces and stress derivatives of its energy, how fast is it.

    Finite differences on five built-in crystals; ends with exit code 1 if a potential that calls itself conservative
    is not.
    """
    from crysgen_aiida.physics.judges import doubt
    from crysgen_aiida.physics.potentials import load_potential

    loaded = load_potential(name, device)
    tests = import_module(_TESTS)
    rows: list[dict[str, Any]] = tests.consistency_rows(loaded)
    passed = all(row["passed"] for row in rows)
    verdict = {
        **loaded.record(),
        "atoms_per_second": tests.atoms_per_second(loaded, threads),
        "threads": threads,
        "passed": passed,
        "control": doubt(loaded.info.method),
    }
    if fmt == "json":
        emit_record({**verdict, "crystals": rows}, fmt)
    elif fmt == "csv":
        emit([{**row, **verdict} for row in rows], fmt)
    else:
        emit(rows)
        click.echo("")
        emit_record({k: verdict[k] for k in ("method", "checkpoint_sha256", "atoms_per_second", "control")})
        click.echo(_sentence(loaded, passed))
    if not passed and loaded.info.conservative:
        ctx.exit(1)


def _sentence(loaded: LoadedPotential, passed: bool) -> str:
    method = loaded.info.method
    if passed:
        return f"Forces and stress of {method} are derivatives of its energy."
    if loaded.info.conservative:
        return (
            f"FAILED: forces or stress of {method} are not derivatives of its energy, though it is registered as "
            "conservative; do not use it for relaxations or phonons."
        )
    return f"Forces of {method} are not derivatives of its energy, as registered: it is refused for phonons."
