"""A run that is stopped, as by a scheduler near its limit."""

from __future__ import annotations

from crysgen_aiida.crystals.errors import OutOfTime
from crysgen_aiida.crystals.run import InProcess


class Stopping(InProcess):
    """A run whose time is up at the n-th look at the clock."""

    looks = 10**9

    def check_time(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise OutOfTime("The wall-time limit was near.")
