"""GPU slots on a machine without a scheduler: at most one job a slot, freed by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable

from crysgen_aiida.crystals.errors import BadJob
from crysgen_aiida.worker.job import GpuSlotsChoice

_POLL_SECONDS = 0.5
_SAY_SECONDS = 10.0


class GpuSlots:
    """Takes slots by ``flock`` on files of a directory that all jobs of the machine share.

    There are no pid files to go stale. The choice is made when the job runs: slots in options or environment variables
    would be part of AiiDA's hash and defeat caching.
    """

    def __init__(self, choice: GpuSlotsChoice) -> None:
        self.choice = choice
        self.taken: list[int] = []
        self._handles: list[int] = []

    def acquire(self, on_wait: Callable[[], None], check_time: Callable[[], None]) -> list[int]:
        """Take the slots, waiting for them; set ``CUDA_VISIBLE_DEVICES`` to their devices.

        :param on_wait: called now and then while waiting.
        :param check_time: called while waiting; may raise.
        :raises BadJob: if the directory cannot be used, or the scheduler granted fewer devices than there are slots.
        """
        directory = self.choice.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadJob(
                f"The directory of GPU slots {directory} cannot be made ({error}); correct resources.gpu_slots."
            ) from None
        said = -_SAY_SECONDS
        while not self._try():
            check_time()
            if time.monotonic() - said >= _SAY_SECONDS:
                on_wait()
                said = time.monotonic()
            # jobs that wait must not all come back at once
            time.sleep(_POLL_SECONDS * (0.5 + random.random()))
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_device(slot, self.choice.count) for slot in self.taken)
        return self.taken

    def release(self) -> None:
        """Give the slots back."""
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
        self.taken = []

    def _try(self) -> bool:
        # all or nothing: two jobs that each hold one slot and want two would wait for ever
        for slot in range(self.choice.count):
            path = self.choice.directory / f"slot-{slot}.lock"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            except OSError as error:
                os.close(handle)
                raise BadJob(f"{path} cannot be locked ({error}); put resources.gpu_slots on a local disk.") from None
            self._handles.append(handle)
            self.taken.append(slot)
            if len(self.taken) == self.choice.take:
                return True
        self.release()
        return False


def _device(slot: int, count: int) -> str:
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not visible:
        return str(slot)
    if len(visible) < count:
        raise BadJob(
            f"{count} GPU slots are declared but CUDA_VISIBLE_DEVICES names {len(visible)} devices; declare as many."
        )
    return visible[slot]
