"""The services a new profile uses: SQLite or PostgreSQL for the graph, ZeroMQ or RabbitMQ for its messages."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli import postgresql, profiles, rabbitmq
from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile

STORAGES = {"sqlite": "core.sqlite_dos", "postgresql": postgresql.BACKEND}
BROKERS = {"zeromq": "core.zeromq", "rabbitmq": rabbitmq.BACKEND}

#: Environment variable that carries the broker's password.
BROKER_PASSWORD = "CRYSGEN_BROKER_PASSWORD"


@dataclass
class Backends:
    """What AiiDA needs to know to make a profile, and what was made outside of it."""

    storage: str
    storage_config: dict[str, Any]
    broker: str
    broker_config: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Services:
    """What was asked for on the command line; None where nothing was."""

    storage: str | None = None
    broker: str | None = None
    db_host: str | None = None
    db_port: int | None = None
    db_name: str | None = None
    db_user: str | None = None
    db_admin: str | None = None
    broker_host: str | None = None
    broker_port: int | None = None
    broker_user: str | None = None
    broker_vhost: str | None = None

    def require_same(self, profile: Profile) -> None:
        """Raise if an existing profile uses others than what was asked for.

        :raises ImpossibleRequest: saying how to change the broker, or to make another profile.
        """
        if self.storage and STORAGES[self.storage] != profile.storage_backend:
            raise ImpossibleRequest(
                f"The profile {profile.name} exists and keeps its graph in {profile.storage_backend}; it stays as it "
                f"is. Make another with `crysgen -p NAME setup --storage {self.storage}`, and take data over with "
                "`verdi archive create` and `verdi archive import`."
            )
        held = profile.process_control_backend
        if self.broker and BROKERS[self.broker] != held:
            raise ImpossibleRequest(
                f"The profile {profile.name} exists and uses the broker {held}; it stays as it is. Stop its daemon and "
                f"change it with `verdi -p {profile.name} profile configure-broker {BROKERS[self.broker]}`, or make "
                f"another with `crysgen -p NAME setup --broker {self.broker}`."
            )
        self._require_same_place(profile)

    @contextlib.contextmanager
    def backends(self, profile: str) -> Iterator[Backends]:
        """Yield backends that answer, for a new profile; if it then cannot be made, undo what was made for it.

        :raises ImpossibleRequest: if a server does not answer, refuses, or is used by another profile.
        """
        from aiida.plugins import BrokerFactory

        found = Backends(STORAGES["sqlite"], {}, BROKERS["zeromq"], BrokerFactory("core.zeromq").get_default_config())
        if self.broker == "rabbitmq":  # first: it makes nothing
            self._use_rabbitmq(found)
        if self.storage != "postgresql":
            yield found
            return
        wanted = self._database(profile)
        repository = Path(profiles.get_config().dirpath) / "repository" / profile
        _require_unused(wanted)
        made = postgresql.ensure(wanted, self._admin(wanted))
        try:
            if postgresql.ask(made.database).has_aiida and not (repository / "container").exists():
                raise ImpossibleRequest(
                    f"The database {wanted.name} of {wanted.server} holds the graph of another AiiDA installation; "
                    "name another with --db-name, and it is made."
                )
            found.storage, found.storage_config = postgresql.BACKEND, made.database.config(repository.as_uri())
            found.made += made.made
            yield found
        except BaseException:
            if profile not in profiles.get_config().profile_names:  # one that was made needs its database
                postgresql.undo(made)
            raise

    def _database(self, profile: str) -> postgresql.Database:
        name = profile if profile == profiles.OWN_PROFILE else f"{profiles.OWN_PROFILE}-{profile}"
        return postgresql.Database(
            self.db_host or "localhost",
            self.db_port or 5432,
            self.db_name or name,
            self.db_user or name,
            _password(postgresql.PASSWORD, f"Password of the PostgreSQL user {self.db_user}, if it exists")
            if self.db_user
            else os.environ.get(postgresql.PASSWORD, ""),
        )

    def _admin(self, wanted: postgresql.Database) -> postgresql.Database:
        user = self.db_admin or "postgres"
        password = (
            _password(postgresql.ADMIN_PASSWORD, f"Password of the PostgreSQL administrator {user}")
            if self.db_admin
            else os.environ.get(postgresql.ADMIN_PASSWORD, "")
        )
        return postgresql.Database(wanted.host, wanted.port, "postgres", user, password)

    def _use_rabbitmq(self, found: Backends) -> None:
        from aiida.brokers.rabbitmq.utils import get_rmq_url

        user = self.broker_user or "guest"
        password = "guest" if user == "guest" else ""
        config: dict[str, Any] = {
            "protocol": "amqp",
            "username": user,
            "password": os.environ.get(BROKER_PASSWORD)
            or password
            or _password(BROKER_PASSWORD, f"Password of the RabbitMQ user {user}"),
            "host": self.broker_host or "127.0.0.1",
            "port": self.broker_port or 5672,
            "virtual_host": self.broker_vhost or "",
        }
        answer = rabbitmq.ask(get_rmq_url(**config))
        found.broker, found.broker_config = rabbitmq.BACKEND, {f"broker_{k}": v for k, v in config.items()}
        timeout = rabbitmq.consumer_timeout(answer)
        if timeout == float("inf"):
            # the version is only a problem with the timeout: AiiDA need not warn at every command
            found.options["warnings.rabbitmq_version"] = False
        else:
            found.warnings.append(f"{answer.where}: {rabbitmq.timeout_wording(timeout)}; {rabbitmq.TIMEOUT_REMEDY}.")

    def _require_same_place(self, profile: Profile) -> None:
        """Raise if an existing profile uses another server or database than the one named.

        :raises ImpossibleRequest: naming the first difference.
        """
        storage, broker = profile.storage_config, profile.process_control_config or {}
        for option, asked, held in (
            ("--db-host", self.db_host, storage.get("database_hostname")),
            ("--db-port", self.db_port, storage.get("database_port")),
            ("--db-name", self.db_name, storage.get("database_name")),
            ("--db-user", self.db_user, storage.get("database_username")),
            ("--broker-host", self.broker_host, broker.get("broker_host")),
            ("--broker-port", self.broker_port, broker.get("broker_port")),
            ("--broker-user", self.broker_user, broker.get("broker_username")),
            ("--broker-vhost", self.broker_vhost, broker.get("broker_virtual_host")),
        ):
            if asked is not None and asked != held:
                raise ImpossibleRequest(
                    f"The profile {profile.name} exists with {held if held is not None else 'nothing'} for {option}, "
                    f"not {asked}; it stays as it is. Make another with `crysgen -p NAME setup …`."
                )


def service_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the services, handed to the command as one ``services``."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        asked = {name: kwargs.pop(name) for name in Services.__dataclass_fields__}
        services = Services(**asked)
        _require_meaning(services)
        return function(*args, services=services, **kwargs)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


_OPTIONS = (
    click.option("--storage", type=click.Choice(list(STORAGES)), help="Where the graph is kept  [default: sqlite]"),
    click.option("--broker", type=click.Choice(list(BROKERS)), help="What carries the messages  [default: zeromq]"),
    click.option("--db-host", metavar="HOST", help="PostgreSQL server, or the folder of its socket  "
                 "[default: localhost]"),
    click.option("--db-port", type=click.IntRange(1, 65535), metavar="PORT", help="[default: 5432]"),
    click.option("--db-name", metavar="NAME", help="Database of the profile, made if missing  [default: crysgen, "
                 "or crysgen-PROFILE]"),
    click.option("--db-user", metavar="NAME", help="Its owner, made if missing  [default: as the database]"),
    click.option("--db-admin", metavar="NAME", help="Who makes them  [default: postgres]"),
    click.option("--broker-host", metavar="HOST", help="RabbitMQ server  [default: 127.0.0.1]"),
    click.option("--broker-port", type=click.IntRange(1, 65535), metavar="PORT", help="[default: 5672]"),
    click.option("--broker-user", metavar="NAME", help="[default: guest]"),
    click.option("--broker-vhost", metavar="NAME", help="Virtual host  [default: /]"),
)  # fmt: skip


def _require_meaning(services: Services) -> None:
    """Raise if an option was given for a service that is not asked for.

    :raises click.UsageError: naming the option that is missing.
    """
    for prefix, chosen, needed in (
        ("db_", services.storage == "postgresql", "--storage postgresql"),
        ("broker_", services.broker == "rabbitmq", "--broker rabbitmq"),
    ):
        given = [n for n in Services.__dataclass_fields__ if n.startswith(prefix) and getattr(services, n) is not None]
        if given and not chosen:
            raise click.UsageError(f"--{given[0].replace('_', '-')} only has a meaning with {needed}; add it.")


def _require_unused(wanted: postgresql.Database) -> None:
    """Raise if another profile of this configuration keeps its graph in that database.

    :raises ImpossibleRequest: naming it.
    """
    for profile in profiles.get_config().profiles:
        if profile.storage_backend != postgresql.BACKEND:
            continue
        held = postgresql.database_of(profile.storage_config)
        if (held.host, held.port, held.name) == (wanted.host, wanted.port, wanted.name):
            raise ImpossibleRequest(
                f"The database {wanted.name} of {wanted.server} is that of the profile {profile.name}; name another "
                "with --db-name, and it is made."
            )


def _password(variable: str, prompt: str) -> str:
    """Return a password from the environment, or ask for it where somebody can answer; it may be empty."""
    held = os.environ.get(variable)
    if held is None and sys.stdin.isatty():
        return str(click.prompt(f"{prompt} ({variable} is not set)", default="", hide_input=True, show_default=False))
    return held or ""
