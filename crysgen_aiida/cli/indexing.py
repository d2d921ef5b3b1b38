"""Commands that ask the candidate index: opened, brought up to date and closed in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli.output import Progress
from crysgen_aiida.cli.profiles import chosen_profile, open_profile

if TYPE_CHECKING:
    from crysgen_aiida.store.explain.runs import Run
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.sync import SyncReport

#: How long a question waits for another synchronisation to end [s].
PATIENCE = 10.0


def sync_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--sync/--no-sync``, handed to the command as ``sync``."""
    return click.option(
        "--sync/--no-sync",
        default=True,
        show_default=True,
        help="Bring the index up to date first; without, the index alone is read as it is.",
    )(function)


@contextmanager
def indexed(sync: bool = True) -> Iterator[Index]:
    """Yield the index of the profile of this command line.

    :param sync: load the profile and synchronise first. Without it AiiDA's storage is never opened.
    """
    from crysgen_aiida.store.location import open_index

    # a profile that was never synchronised has no index to read as it is
    index = open_index(open_profile() if sync else chosen_profile(), create=sync)
    try:
        if sync:
            _catch_up(index)
        else:
            for note in index.notes:
                click.echo(note, err=True)
        yield index
    finally:
        index.close()


@contextmanager
def snapshot(sync: bool = True) -> Iterator[Index]:
    """Yield the index as :func:`indexed` does, in one state however many steps a question has and whoever writes."""
    with indexed(sync) as index, index.read():
        yield index


def _catch_up(index: Index) -> None:
    """Synchronise, unless that has to wait for somebody else or cannot be done: then the index is read as it is."""
    from crysgen_aiida.crystals.errors import BadInput

    try:
        with index.lock(PATIENCE):
            pass
    except BadInput as error:
        click.echo(f"{error} The answer is that of the index as it is now.", err=True)
    else:
        tell(synchronise(index))


def synchronise(index: Index, *, rebuild: bool = False) -> SyncReport:
    """Bring the index up to date with the loaded profile, showing how far it is on a terminal."""
    from crysgen_aiida.store.sync import sync

    line = Progress("sync")

    def show(done: int, total: int) -> None:
        line.update(f"{done} of {total}")

    try:
        return sync(index, progress=show, rebuild=rebuild)
    finally:
        line.done()


def tell(report: SyncReport) -> None:
    """Say on stderr what a synchronisation changed and could not take; nothing if it changed nothing."""
    for note in report.notes:
        click.echo(note, err=True)
    if report.added or report.removed:
        click.echo(
            f"Index: {report.added} table(s) added, {report.removed} removed, {report.rows} candidate(s) in "
            f"{report.seconds:.1f} s.",
            err=True,
        )


def sync_afterwards() -> None:
    """Bring the index up to date at the end of a command whose own work is done: trouble here is only told."""
    from crysgen_aiida.crystals.errors import CrysgenError

    try:
        with indexed():
            pass
    except CrysgenError as error:
        click.echo(f"The run is done, but the index was not brought up to date: {error}", err=True)


def the_run(index: Index, text: str | None, sync: bool) -> Run:
    """Return the run a user means: one the index lists or, with the graph at hand, any process with screenings below.

    :raises click.ClickException: if it is neither.
    """
    from crysgen_aiida.crystals.errors import ImpossibleRequest
    from crysgen_aiida.store.explain.runs import find_run, run_of_screens

    try:
        return find_run(index, text)
    except ImpossibleRequest:
        if text is None or not sync:
            raise
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    from crysgen_aiida.store.candidates import screenings_below

    try:
        node = orm.load_node(text)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"There is no process {text!r}: {error}; see `crysgen run list`.") from None
    if not isinstance(node, orm.ProcessNode):
        raise click.ClickException(f"Node {text} is a {type(node).__name__}, not a run; see `crysgen run list`.")
    return run_of_screens(index, [found.screen.uuid for found in screenings_below(node)], node.uuid, node.label)
