"""The job of ph.x: the plug-in's, which cannot be continued as it stands."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida_quantumespresso.calculations.ph import PhCalculation


class QePhCalculation(PhCalculation):
    """``PhCalculation`` that can continue another.

    That of aiida-quantumespresso 5.1 looks up a namelist it has just taken away whenever its parent is a job of its own
    type (``KeyError: 'INPUTPH'``). A job of this type takes another path there, and copies the matrices itself.
    """

    def prepare_for_submission(self, folder: Any) -> Any:
        """Add the matrices of the job that is continued to what is copied."""
        info = super().prepare_for_submission(folder)
        parent: orm.RemoteData = self.inputs.parent_folder
        if parent.creator.process_type == self.node.process_type:
            matrices = PurePosixPath(parent.get_remote_path()) / self._FOLDER_DYNAMICAL_MATRIX
            computer: orm.Computer = self.node.computer
            info.remote_copy_list.append((computer.uuid, str(matrices / "*"), self._FOLDER_DYNAMICAL_MATRIX))
        return info
