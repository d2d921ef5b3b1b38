"""Packages of Debian that tests want: installed where we may, named where not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


def may_install() -> bool:
    """Whether apt-get is there and we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(packages: Sequence[str]) -> int:
    """Install packages with apt-get; return its exit code.

    Who is not root, or not on Debian, is told what to install: that is no failure, tests that need it are skipped.
    """
    if not packages:
        return 0
    if not may_install():
        print(f"Not installed. As root on Debian: apt-get install {' '.join(packages)}")
        return 0
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        if code := subprocess.run(["apt-get", *command], env=environment, check=False).returncode:
            return code
    return 0
