"""Build ``crysgen_aiida/starter/starter.aiida``: data set, reference energies and starter generator, with their graph.

    python tools/build_starter_archive.py

Everything is made by this project's own processes, run by a real daemon in a profile of its own: the data set is
imported, then two branches run side by side with one thread each, ``relax → reference`` and ``prepare → train``. On two
cores that takes one to two hours. The command can be stopped and repeated: finished steps are found again by their
label, an unfinished one continues from its finished parts.

What leaves the machine is neutral: the profile's e-mail, its computer ``crysgen-build`` and the folder its jobs ran in
name nobody, and the finished archive is searched for this machine's names before it is put in place.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "crysgen_aiida" / "starter"
COMPUTER = "crysgen-build"
PROFILE = "crysgen-build"
MAX_MEGABYTES = 15.0

#: Extra of a step's process: what was asked for, so that the same step is found again and another is not.
STEP = "crysgen_step"

#: How every crystal of the reference is relaxed. Candidates are relaxed the same way: the recipes say the same.
RELAX = {"fmax": 0.1, "max_steps": 100}


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, default=STARTER / "crystals.parquet", help="the data set")
    parser.add_argument("--near-hull", type=Path, default=STARTER / "near_hull.parquet", help="table of label energies")
    parser.add_argument("--output", type=Path, default=STARTER / "starter.aiida", help="the archive to write")
    parser.add_argument(
        "--build-dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "crysgen-build",
        help="profile and job folders live here; repeat the command with the same folder to continue",
    )
    parser.add_argument("--max-crystals", type=int, help="use only N crystals, evenly spaced (for tests)")
    parser.add_argument("--max-relax", type=int, help="relax only N of them (for tests)")
    parser.add_argument("--generator", default="mattergpt", help="name of the generator")
    parser.add_argument("--preset", default="starter", help="its preset")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
                        help="override of its spec, e.g. training.epochs=2 (JSON values; repeatable)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--threads", type=int, default=1, help="threads of each of the two branches")
    parser.add_argument("--train-run", type=Path, help="folder of a finished train run made elsewhere, to import")
    parser.add_argument("--reuse", type=Path, metavar="ARCHIVE",
                        help="take relaxed crystals and reference from this archive; only train anew")  # fmt: skip
    parser.add_argument("--keep-daemon", action="store_true", help="leave the daemon of the build profile running")
    return parser.parse_args()


def main() -> int:
    """Build the archive."""
    options = arguments()
    build_dir = options.build_dir.resolve()
    refuse_personal(build_dir)
    prepare_environment(build_dir)

    from crysgen_aiida.cli.processes import stop_daemon
    from crysgen_aiida.crystals.errors import CrysgenError

    try:
        ready = set_up(build_dir, options.reuse)
        say(f"profile {PROFILE} in {build_dir}: " + (", ".join(ready) if ready else "found"))
        export(run(options), options.output, build_dir)
        status = 0
    except CrysgenError as error:
        say(f"failed: {error}")
        status = 1
    except KeyboardInterrupt:
        say("interrupted; the running steps go on, repeat the command to take them up again")
        return 130
    if not options.keep_daemon:
        say(stop_daemon(PROFILE))
    return status


# -- set-up ------------------------------------------------------------------------------------------------------------


def refuse_personal(build_dir: Path) -> None:
    """Refuse a build folder whose path names a person: it becomes part of the archive."""
    home = Path.home().resolve()
    if build_dir == home or home in build_dir.parents:
        sys.exit(f"The build folder {build_dir} is inside a home directory and would travel along; choose another.")


def prepare_environment(build_dir: Path) -> None:
    """Point AiiDA at the build folder, before it is imported, and keep every job to its own threads."""
    build_dir.mkdir(parents=True, exist_ok=True)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # a warning in a job's log names the file it came from, with the path of this installation
    os.environ["PYTHONWARNINGS"] = "ignore"
    os.environ["AIIDA_PATH"] = str(build_dir)
    os.environ.pop("AIIDA_PROFILE", None)
    import warnings

    warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")


def set_up(build_dir: Path, reuse: Path | None) -> list[str]:
    """Make profile, computer and code of the build, start the daemon; return what was made."""
    from aiida.manage.configuration import load_profile

    from crysgen_aiida.cli import setup
    from crysgen_aiida.cli.processes import start_daemon

    ready = setup.ensure_profile(PROFILE)
    load_profile(PROFILE, allow_switch=True)
    if reuse:
        import_earlier(reuse)  # first: it brings the computer and the code of its jobs, which the new jobs then use
    computer, made = setup.ensure_computer(COMPUTER, workdir=str(build_dir / "work"))
    if made:
        ready.made.append(f"computer {computer.label}")
    # a bare name, found on the daemon's PATH: an absolute path would travel along
    code, made = setup.ensure_code(computer, executable=setup.CODE)
    if made:
        ready.made.append(f"code {code.full_label}")
    say(start_daemon(PROFILE, 1))
    return ready.made


# -- the two branches --------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run both branches side by side and return the nodes to export."""
    from crysgen_aiida.crystals.errors import BadInput

    held = import_earlier(options.reuse) if options.reuse else None
    dataset = import_dataset(options.crystals, options.max_crystals)
    steps = Steps(options)
    generator = steps.import_training(options.train_run) if options.train_run else None
    nodes: dict[str, Any] = {"dataset": dataset, "generator": generator}
    if options.near_hull.exists():
        nodes["near_hull"] = import_near_hull(options.near_hull)

    prepared = relaxed = reference = trained = None
    if held is None:
        relaxed = steps.start("starter relax", "relax", {"crystals": dataset}, steps.relax_parameters())
    elif held.dataset.content_hash != dataset.content_hash:
        raise BadInput(f"{options.reuse.name} was made from another data set; build without --reuse.")
    if generator is None:
        prepared = steps.start("starter prepare", "prepare", {"crystals": dataset}, generator=True)
    while True:
        if trained is None and prepared is not None and prepared.is_terminated:
            inputs = {"training_set": steps.output(prepared, "training_set")}
            trained = steps.start("starter train", "train", inputs, generator=True)
        if reference is None and relaxed is not None and relaxed.is_terminated:
            inputs = {"crystals": steps.output(relaxed, "crystals")}
            reference = steps.start("starter reference", "reference", inputs, steps.reference_parameters())
        steps.wait([p for p in (prepared, trained, relaxed, reference) if p is not None])
        trained_up = generator is not None or (trained is not None and trained.is_terminated)
        if trained_up and (held is not None or (reference is not None and reference.is_terminated)):
            break
    nodes["relaxed"] = held.relaxed if held else steps.output(relaxed, "crystals")
    nodes["reference"] = held.reference if held else steps.output(reference, "reference")
    if generator is None:
        nodes["generator"] = steps.output(trained, "generator")
    for name, node in nodes.items():
        node.label = f"starter {name}"
    return nodes


class Steps:
    """Starts each step once: a finished or running one of the same label and inputs is taken up again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.spec = parse_settings(options.settings)
        self.told = 0.0

    def relax_parameters(self) -> dict[str, Any]:
        """The settings candidates are relaxed with, so that both sit on one energy scale."""
        parameters: dict[str, Any] = {"relax": dict(RELAX)}
        parameters["potential"] = {"name": self.options.potential}
        if self.options.max_relax:
            parameters["selection"] = {"n": self.options.max_relax}
        return parameters

    def reference_parameters(self) -> dict[str, Any]:
        """How the reference is called and which scale it is on."""
        return {"name": f"starter-{self.options.potential}", "scheme": "self-consistent"}

    def start(
        self, label: str, verb: str, inputs: dict[str, Any], parameters: Any = None, generator: bool = False
    ) -> ProcessNode:
        """Return the process of a step: finished before, still running, or submitted now."""
        from crysgen_aiida.cli.submit import submit_verb
        from crysgen_aiida.crystals.hashing import json_hash

        choice = {"name": self.options.generator, "preset": self.options.preset, "spec": self.spec}
        asked = [verb, {k: v.uuid for k, v in inputs.items()}, parameters, choice if generator else None]
        key = json_hash([*asked, self.options.seed])
        held = find_step(key)
        if held is not None:
            say(f"{label}: {'finished before' if held.is_terminated else 'still running'} (process {held.pk})")
            return held
        process = submit_verb(
            verb,
            inputs,
            parameters or {},
            generator=choice if generator else None,
            seed=self.options.seed,
            threads=self.options.threads,
            code=f"crysgen-worker@{COMPUTER}",
            label=label,
        )
        process.base.extras.set(STEP, key)
        say(f"{label}: submitted (process {process.pk})")
        return process

    def output(self, process: ProcessNode | None, name: str) -> Any:
        """Return an output of a step.

        :raises ProcessFailed: if the step failed.
        """
        from crysgen_aiida.cli.following import require_ok

        assert process is not None
        require_ok([process])
        return process.outputs[name]

    def wait(self, processes: list[Any]) -> None:
        """Wait until one more of the processes has ended; look after the daemon meanwhile."""
        from crysgen_aiida.cli.following import active_jobs, describe

        running = [p for p in processes if not p.is_terminated]
        before = len(running)
        while running and len([p for p in running if not p.is_terminated]) == before:
            time.sleep(2.0)
            if time.monotonic() - self.told > 30:
                self.told = time.monotonic()
                say(" | ".join(describe(j) for p in running for j in active_jobs(p)) or "waiting for the daemon")
                self.look_after_daemon()

    def look_after_daemon(self) -> None:
        """Start the daemon again if it died."""
        from crysgen_aiida.cli.processes import inspect, start_daemon

        if inspect(PROFILE).circus is None:
            say(start_daemon(PROFILE, 1))

    def import_training(self, folder: Path) -> Any:
        """Import a training that ran elsewhere, with its inputs checked, and return its generator."""
        from crysgen_aiida.calculations.importer import import_run

        node = import_run(folder)
        node.label = "starter train"
        say(f"starter train: imported from {folder.name} (process {node.pk})")
        return node.outputs["generator"]


def import_dataset(path: Path, limit: int | None) -> Any:
    """Return the data set as a node, made once per content."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    crystals = CrystalSet.read(path)
    if limit and limit < len(crystals):
        crystals = crystals.take(i * len(crystals) // limit for i in range(limit))
    node = CrystalSetData.get_or_create(crystals)
    say(f"data set: {node.n_rows} crystals (node {node.pk}, content {node.content_hash[:12]})")
    return node


def import_earlier(archive: Path) -> Any:
    """Return the nodes of an earlier archive, brought into the build profile."""
    from crysgen_aiida.cli.starter import import_starter

    earlier = import_starter(archive, json.loads(archive.with_suffix(".json").read_text()))
    say(f"relaxed crystals {earlier.relaxed.uuid[:8]} and reference {earlier.reference.uuid[:8]} from {archive.name}")
    return earlier


def import_near_hull(path: Path) -> Any:
    """Return the table of near-hull formation energies on the scale of the labels, as a node."""
    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.data.packed import ReferenceEnergiesData

    node = ReferenceEnergiesData.get_or_create(ReferenceSet.read(path))
    say(f"near-hull table: {node.n_rows} entries (node {node.pk})")
    return node


def find_step(key: str) -> Any:
    """Return the newest process of this step that finished well or still runs, or None."""
    from aiida import orm

    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={f"extras.{STEP}": key}, tag="step").order_by({"step": {"id": "desc"}})
    for process in query.all(flat=True):
        if not process.is_terminated or process.is_finished_ok:
            return process
    return None


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return nested overrides from ``a.b=value`` texts, values being JSON or plain text."""
    from crysgen_aiida.cli.settings import nested

    return nested(settings)


# -- export ------------------------------------------------------------------------------------------------------------


def export(nodes: dict[str, Any], output: Path, build_dir: Path) -> None:
    """Write the archive, check that it names nobody and is small enough, and put it in place."""
    import logging

    from aiida.tools.archive import create_archive

    from crysgen_aiida.cli.starter import private_words, scan_archive, scrub
    from crysgen_aiida.crystals.errors import BadInput

    scrub(nodes.values())
    draft = build_dir / "starter.aiida"
    logging.getLogger("aiida.export").setLevel(logging.WARNING)
    create_archive(list(nodes.values()), filename=draft, overwrite=True, include_logs=False, compression=9)
    found = scan_archive(draft, private_words(extra=[str(ROOT)]))
    if found:
        raise BadInput("The archive names this machine or its user:\n  " + "\n  ".join(found[:20]))
    size = draft.stat().st_size / 1e6
    if size > MAX_MEGABYTES:
        raise BadInput(f"The archive has {size:.1f} MB, more than {MAX_MEGABYTES:.0f}; use a smaller preset.")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.new")
    temporary.write_bytes(draft.read_bytes())
    temporary.replace(output)
    manifest = {name: node.uuid for name, node in nodes.items()}
    output.with_suffix(".json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    say(f"wrote {output.name}: {size:.2f} MB, " + ", ".join(f"{k} {v[:8]}" for k, v in manifest.items()))


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
