"""When to stop: the wall-time limit and the signals of a scheduler or a user."""

from __future__ import annotations

import math
import os
import signal
import time
from types import FrameType
from typing import Any

from crysgen_aiida.crystals.errors import OutOfTime
from crysgen_aiida.worker.failures import StopNow
from crysgen_aiida.worker.job import TIME_MARGIN_SECONDS, TIME_MARGIN_SHARE

#: What schedulers and users send before they kill.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGHUP)

#: Seconds between such a signal and the moment when work is broken off wherever it is.
GRACE_SECONDS = 10.0

#: Seconds between two such interruptions.
AGAIN_SECONDS = 30.0


class Stop:
    """Knows whether to stop, asks politely at safe points and breaks in when none comes in time.

    Work that calls :meth:`check` at safe points ends there. Should none come, an alarm raises
    :class:`~crysgen_aiida.worker.failures.StopNow` in the middle of the work half a margin before the limit: files are
    whole or absent, so nothing but the part being worked on is lost.

    :param limit: wall-time limit [s] counted from ``started`` (:func:`time.monotonic`), or None.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._limit = math.inf
        self._margin = 0.0
        self._asked: str | None = None
        self._kept: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Listen for the signals; children forked from here on do not."""
        for number in (*SIGNALS, signal.SIGALRM):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # whoever started us wants it ignored, as nohup does
            handler = self._on_alarm if number is signal.SIGALRM else self._on_signal
            self._kept[number] = signal.signal(number, handler)
        os.register_at_fork(after_in_child=_default_signals)

    def set_limit(self, seconds: float | None) -> None:
        """Stop before the wall-time limit, by the larger of 5 % of it and 10 s."""
        if seconds is None:
            return
        self._limit = seconds
        self._margin = max(TIME_MARGIN_SHARE * seconds, TIME_MARGIN_SECONDS)
        self._arm(self.remaining() + self._margin / 2)

    def remaining(self) -> float:
        """Seconds until work should stop; infinite without a limit."""
        return self._limit - self._margin - (time.monotonic() - self._started)

    def check(self, needed: float = 0.0) -> None:
        """Raise if it is time to stop, or if the next step would take longer than there is time.

        :param needed: how long the next step is expected to take [s].
        :raises OutOfTime: naming the limit or the signal.
        """
        if self._asked is not None:
            raise OutOfTime(f"Stopped by {self._asked}; finished parts are kept: start the job again to resume.")
        if self.remaining() <= needed:
            raise OutOfTime(
                f"The wall-time limit of {self._limit:g} s is near; finished parts are kept: start the job again to "
                "resume."
            )

    def finish(self) -> None:
        """Ignore signals and the clock from here on: the result is about to be written."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in self._kept:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Put back what handled the signals before."""
        for number, handler in self._kept.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._kept.clear()

    def _arm(self, seconds: float) -> None:
        # it comes again, because an exception raised inside a finaliser is lost, but lets work clean up first
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), AGAIN_SECONDS)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._asked = f"the signal {signal.Signals(number).name}"
        self._arm(min(GRACE_SECONDS, max(self.remaining(), 0.01) + self._margin / 2))

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        raise StopNow(self._asked or f"the wall-time limit of {self._limit:g} s is near")


def _default_signals() -> None:
    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
