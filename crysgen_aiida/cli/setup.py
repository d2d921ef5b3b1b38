"""``crysgen setup``: a profile of its own, ready to run, that touches nobody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli import profiles
from crysgen_aiida.cli.services import Services, service_options
from crysgen_aiida.engines.local import COMPUTER, ensure_computer

if TYPE_CHECKING:
    from aiida import orm

#: Identity written into a new profile; nothing personal travels with an archive made from it.
NEUTRAL_EMAIL = "crysgen@localhost"
CODE = "crysgen-worker"


@dataclass
class Ready:
    """What a set-up found or made."""

    profile: str
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def ensure_profile(name: str, *, email: str = NEUTRAL_EMAIL, services: Services | None = None) -> Ready:
    """Make the profile if it is missing: by default SQLite storage and ZeroMQ broker, which need no service.

    It becomes the default only if there is none.

    :raises ImpossibleRequest: if it exists and uses others than the ``services`` asked for, or if these are no use.
    """
    from aiida.manage.configuration import create_profile

    config = profiles.get_config()
    ready = Ready(name)
    wanted = services or Services()
    if name in config.profile_names:
        wanted.require_same(config.get_profile(name))
        ready.kept.append(f"profile {name}")
        return ready
    with wanted.backends(name) as backends:
        create_profile(
            config,
            name=name,
            email=email,
            storage_backend=backends.storage,
            storage_config=backends.storage_config,
            broker_backend=backends.broker,
            broker_config=backends.broker_config,
        )
    config.set_option("runner.poll.interval", 1, scope=name)
    # the same step on the same input gives the same output: repeat it from the graph
    config.set_option("caching.enabled_for", ["aiida.calculations:crysgen.*"], scope=name)
    for option, value in backends.options.items():
        config.set_option(option, value, scope=name)
    ready.made += [*backends.made, f"profile {name}"]
    ready.warnings += backends.warnings
    if not config.default_profile_name:
        config.set_default_profile(name)
        ready.made.append("default profile (there was none)")
    config.store()
    return ready


def ensure_code(computer: orm.Computer, *, label: str = CODE, executable: str | None = None) -> tuple[orm.Code, bool]:
    """Return the worker's code on ``computer``, and whether it was made now.

    A code of that label that points at another executable (an environment since replaced) is kept for the graph,
    renamed and hidden.
    """
    from aiida import orm

    from crysgen_aiida.cli.processes import own_bin

    wanted = executable or str(own_bin() / "crysgen-worker")
    held = (
        orm.QueryBuilder()
        .append(orm.Computer, filters={"uuid": computer.uuid}, tag="computer")
        .append(orm.InstalledCode, filters={"label": label}, with_computer="computer")
        .all(flat=True)
    )
    for code in held:
        if str(code.filepath_executable) == wanted:
            return code, False
    for code in held:
        code.label = f"{label}-{code.uuid[:8]}"
        code.is_hidden = True
    code = orm.InstalledCode(computer=computer, filepath_executable=wanted, label=label, with_mpi=False)
    code.description = "Runs every crysgen verb"
    return code.store(), True


def ensure_all(name: str, *, email: str = NEUTRAL_EMAIL, services: Services | None = None) -> Ready:
    """Make profile, computer and code, each only if it is missing, and load the profile."""
    from aiida.manage.configuration import load_profile

    ready = ensure_profile(name, email=email, services=services)
    load_profile(name, allow_switch=True)
    computer, made = ensure_computer()
    (ready.made if made else ready.kept).append(f"computer {computer.label}")
    code, made = ensure_code(computer)
    (ready.made if made else ready.kept).append(f"code {code.full_label}")
    return ready


def default_code() -> Any:
    """Return the worker's code on this machine.

    :raises click.ClickException: if the profile was not set up.
    """
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    try:
        return orm.load_code(f"{CODE}@{COMPUTER}")
    except NotExistent:
        raise click.ClickException(
            f"This profile has no code {CODE}@{COMPUTER}; run `crysgen setup`, or name another with --code."
        ) from None


@click.command("setup")
@click.option("--email", default=NEUTRAL_EMAIL, show_default=True, help="Identity recorded in a new profile.")
@service_options
def setup(email: str, services: Services) -> None:
    """Make a profile, this machine as computer and the worker's code; whatever exists is left as it is.

    SQLite and ZeroMQ need no service. With --storage postgresql the database and its user are made if you may, else
    the SQL for an administrator is printed. Passwords come from CRYSGEN_DB_PASSWORD, CRYSGEN_DB_ADMIN_PASSWORD and
    CRYSGEN_BROKER_PASSWORD, or are asked for.
    """
    config = profiles.get_config()
    explicit = profiles.explicit_profile()
    name = explicit or (profiles.choose(config, None)[0] if _asked_by_environment() else None) or profiles.OWN_PROFILE
    before = config.default_profile_name
    ready = ensure_all(name, email=email, services=services)
    for made in ready.made:
        click.echo(f"made    {made}")
    for kept in ready.kept:
        click.echo(f"kept    {kept}")
    for warning in ready.warnings:
        click.echo(f"note    {warning}")
    if before and before != name:
        click.echo(f"        the default profile is still {before}")
    click.echo(f"Next: `crysgen{f' -p {name}' if name != profiles.OWN_PROFILE else ''} daemon start`.")


def _asked_by_environment() -> bool:
    import os

    return bool(os.environ.get("AIIDA_PROFILE"))
