"""The private servers' tool, and commands run as a user would in a configuration folder that names them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "store")]

import services as servers  # noqa: E402

#: The profile on SQLite and ZeroMQ, and the one on PostgreSQL and RabbitMQ.
LITE, FULL = "lite", "full"

#: A quickstart small enough for a test.
QUICKSTART = ("quickstart", "--n", "24", "--relax", "4", "--top", "3", "--threads", "1", "--time-box", "600")


@dataclass(frozen=True)
class Home:
    """An AiiDA configuration folder, and commands run in it as a user would."""

    folder: Path
    services: servers.Services
    environment: dict[str, str] = field(repr=False)

    def run(self, *command: str, code: int = 0, timeout: float = 180, said: str = "", **more: str | None) -> str:
        """Run a script of this environment and return what it said on both channels; its exit code must be ``code``.

        :param said: text on its standard input.
        :param more: environment variables to set, or with None to leave out.
        """
        environment = {k: v for k, v in {**self.environment, **more}.items() if v is not None}
        done = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            input=said,
            cwd=self.folder,
            env=environment,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def at_servers(self) -> list[str]:
        """The options that name the private servers."""
        mine = self.services
        return [
            *("--storage", "postgresql", "--db-host", "127.0.0.1", "--db-port", str(mine.postgres_port)),
            *("--broker", "rabbitmq", "--broker-port", str(mine.rabbitmq_port), "--broker-user", mine.rabbitmq_user),
        ]

    def config(self) -> dict[str, Any]:
        """AiiDA's configuration file."""
        held: dict[str, Any] = json.loads((self.folder / ".aiida" / "config.json").read_text())
        return held


def make_home(services: servers.Services) -> Home:
    """Return an empty configuration folder; the passwords of the servers are in its environment."""
    held = {k: v for k, v in os.environ.items() if not k.startswith(("AIIDA", "CRYSGEN_", "PG", "PYTHONPATH"))}
    folder = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))  # short: sockets must fit into 107 bytes
    environment = {
        **held,
        **services.rabbitmqctl,
        "AIIDA_PATH": str(folder),
        "CRYSGEN_DB_ADMIN_PASSWORD": services.postgres_password,
        "CRYSGEN_BROKER_PASSWORD": services.rabbitmq_password,
    }
    return Home(folder, services, environment)
