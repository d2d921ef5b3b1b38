"""The command ``crysgen-worker``: does a job on the compute node, needs no AiiDA.

Nothing heavy is imported here: the number of threads must be known to the numerical libraries before they load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from crysgen_aiida import __version__
from crysgen_aiida.crystals.errors import BadJob, CrysgenError
from crysgen_aiida.worker import WORKER_API
from crysgen_aiida.worker.device import set_environment
from crysgen_aiida.worker.verbs import VERBS

#: A process can only end with 0 to 255: the exit codes of the worker, 300 and above, lose 256 on the way.
PROCESS_EXIT_OFFSET = 256

_FORMATS = ("table", "json", "csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status of the process."""
    started = time.monotonic()
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    try:
        if arguments.command in ("status", "verify"):
            from crysgen_aiida.worker import status

            report = status.status if arguments.command == "status" else status.verify
            text, code = report(Path(arguments.folder), arguments.format)
            _print(text, sys.stdout)
        else:
            code = _do_job(Path(arguments.job), arguments.command, started, restart=argv is None)
    except CrysgenError as error:
        _print(str(error), sys.stderr)
        code = error.exit_code
    _flush()
    return exit_status(code)


def exit_status(code: int) -> int:
    """Return the exit status of the process for an exit code of the worker: 320 ends the process with 64."""
    return code - PROCESS_EXIT_OFFSET if code > 255 else code


def _do_job(path: Path, verb: str, started: float, *, restart: bool) -> int:
    if not path.is_file():
        raise BadJob(f"There is no job description {path}; give the path of job.json.")
    path = path.resolve()  # the work is done in its folder
    changed = set_environment(os.environ, _threads(path))
    if changed and restart and sys.orig_argv and sys.executable:
        # the same process from its start, with the environment that libraries read only then
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)
    from crysgen_aiida.worker.execute import execute

    return execute(path, verb, started)


def _threads(path: Path) -> int:
    """Return the number of threads a job asks for; a job that cannot be read is refused later, with a sentence."""
    try:
        threads = json.loads(path.read_text(encoding="utf-8"))["resources"]["threads"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 1
    return threads if isinstance(threads, int) and not isinstance(threads, bool) and 0 < threads <= 4096 else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    if len(argv) == 2 and not argv[0].startswith("-") and Path(argv[1]).is_file():
        # an unknown verb of a job that exists is refused in the job's result, where the caller looks
        return argparse.Namespace(command=argv[0], job=argv[1])
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crysgen-worker",
        description="Do a job in the folder of its job.json: files in, files out. Started again in the same folder, it "
        "continues from the finished parts.",
        epilog="The exit status of the process is 0, or the exit code in result.json less 256.",
    )
    parser.add_argument(
        "--version", action="version", version=f"crysgen-worker {__version__} (worker_api {WORKER_API})"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in VERBS.values():
        command = commands.add_parser(verb.name, help=verb.summary, description=verb.summary)
        command.add_argument("job", help="path of job.json")
    for name, summary in (
        ("status", "say how far the job in a folder is"),
        ("verify", "compare the files of a finished job with the hashes in its result"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("folder", help="folder of the job")
        command.add_argument("--format", choices=_FORMATS, default="table", help="how to print (default: table)")
    return parser


def _print(text: str, stream: TextIO) -> None:
    with contextlib.suppress(OSError):
        print(text, file=stream)


def _flush() -> None:
    # a log on a full disk cannot be flushed, and Python would replace the exit status when it tries at the very end
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
