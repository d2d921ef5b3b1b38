"""The command tree, the same for ``crysgen …`` and ``verdi data crysgen …``.

Only click and the standard library are imported here: subcommands are loaded when they are named, and each of them
imports pymatgen, aiida.orm and the like inside its functions.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup
from aiida.cmdline.params import options

from crysgen_aiida import __version__
from crysgen_aiida.cli import profiles

#: Subcommand to ``module:attribute``, in the order in which a newcomer meets them.
COMMANDS = {
    "quickstart": "crysgen_aiida.cli.quickstart:quickstart",
    "setup": "crysgen_aiida.cli.setup:setup",
    "doctor": "crysgen_aiida.cli.doctor:doctor",
    "daemon": "crysgen_aiida.cli.daemon:daemon",
    "dataset": "crysgen_aiida.cli.dataset:dataset",
    "hull": "crysgen_aiida.cli.hull:hull",
    "potential": "crysgen_aiida.cli.potential:potential",
    "generator": "crysgen_aiida.cli.generator:generator",
    "design": "crysgen_aiida.cli.design:design",
    "run": "crysgen_aiida.cli.run:run",
    "engine": "crysgen_aiida.cli.engine:engine",
    "candidate": "crysgen_aiida.cli.candidate:candidate",
    "verify": "crysgen_aiida.cli.verify:verify",
    "result": "crysgen_aiida.cli.result:result",
    "row": "crysgen_aiida.cli.row:row",
    "store": "crysgen_aiida.cli.store:store",
}


class LazyGroup(VerdiCommandGroup):
    """A group that imports its subcommands when they are needed and turns every failure into a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands, in tutorial order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand, or fail with the most similar names."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; an exception becomes one line on stderr unless ``-v debug`` was given."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, KeyboardInterrupt):
            raise
        except BrokenPipeError:
            # the reader of our output (head, less) went away: not our failure, and nobody is left to tell
            sys.stderr.close()
            ctx.exit(0)
        except Exception as error:
            from aiida.common import log

            if str(log.CLI_LOG_LEVEL).upper() == "DEBUG":
                raise
            raise click.ClickException(explain(error)) from error


def explain(error: Exception) -> str:
    """Return the sentence a user should read for an exception."""
    from crysgen_aiida.crystals.errors import CrysgenError

    text = str(error).strip()
    kind = type(error).__name__
    if isinstance(error, CrysgenError):
        return text
    if "database is locked" in text:
        return (
            "The profile's SQLite database is locked by another process; nothing was lost. Wait for long commands or "
            "imports to end and repeat this one; with more than four daemon workers use PostgreSQL."
        )
    if "No space left on device" in text or getattr(error, "errno", None) == 28:
        return f"The disk is full ({text}); make room and repeat the command. What was stored before is intact."
    if type(error).__module__.split(".")[0] == "aiida":
        return text or kind
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}. Check the path and its permissions."
    return f"This was not expected: {kind}: {text or 'no message'}. Repeat with `-v debug` to see where it happened."


@click.group("crysgen", cls=LazyGroup, context_settings={"help_option_names": ["--help", "-h"]})
@click.option(
    "-p",
    "--profile",
    "profile_name",
    metavar="NAME",
    help="AiiDA profile to use; without it AIIDA_PROFILE, else `crysgen`, else the default profile.",
)
@options.VERBOSITY()
@click.version_option(__version__, package_name="crysgen-aiida", message="crysgen-aiida %(version)s")
@click.pass_context
def crysgen(ctx: click.Context, profile_name: str | None) -> None:
    """Design crystals backwards from the properties you want, with the origin of every number."""
    profiles.remember(ctx, profile_name)


def main() -> None:
    """Entry point of the console script."""
    crysgen(prog_name="crysgen")
