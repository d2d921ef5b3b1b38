"""AbinitDfptParser: what there is first, then the exit code with its sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.engines.abinit import inputs as files
from crysgen_aiida.engines.abinit.calculation import valence_electrons
from crysgen_aiida.engines.abinit.outputs import Run, read_anaddb, read_errors, read_gap, read_run

#: What ABINIT's errors say, to the exit code; the first that fits.
ERRORS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("available memory", "failed to allocate", "Error allocating memory", "allocation failed"), "ERROR_OUT_OF_MEMORY"),
    (("Chksymbreak=1",), "ERROR_MESH_SYMMETRY"),
    (("group closure", "tolsym", "not a group", "symmetry operation"), "ERROR_SYMMETRY"),
    (("psp8", "seudopotential", "pspcod"), "ERROR_PSEUDOPOTENTIAL"),
)
#: What the shell and the Fortran runtime say when a program is ended.
ENDED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("m_psp8.F90",), "ERROR_PSEUDOPOTENTIAL"),
    (("SIGXCPU", "CPU time limit exceeded"), "ERROR_OUT_OF_WALLTIME"),
    (
        ("Cannot allocate memory", "Insufficient virtual memory", "bad_alloc", "oom-kill", "Out of memory"),
        "ERROR_OUT_OF_MEMORY",
    ),
    (("Killed",), "ERROR_KILLED"),
)


class AbinitDfptParser(Parser):
    """Read energies, convergence and tensors."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Attach facts and, from a whole run, tensors."""
        output = self._text(files.ABINIT_OUTPUT)
        only_scf = bool(self.node.inputs.only_scf.value)
        atoms = len(self.node.inputs.structure.sites)
        run = read_run(output, atoms)
        electrons = valence_electrons(self.node.inputs.structure, self.node.inputs.pseudos)
        facts = run_facts(run)
        gap = None
        try:
            gap = read_gap(self._text(files.EIGENVALUES), electrons // 2)
            facts["gap_at_kpoints_ev"] = gap
        except BadInput:
            pass
        self.out("output_parameters", orm.Dict(facts))
        if not run.done:
            return self._broken(output, run)
        if run.scf_converged is False:
            return self._exit("ERROR_SCF_NOT_CONVERGED", steps=run.scf_steps)
        if gap is None:
            return self._exit("ERROR_OUTPUT_UNREADABLE", reason="there are no eigenvalues with an empty band")
        if gap <= 0:
            return self._exit("ERROR_METAL", gap=gap)
        if run.unconverged:
            return self._exit("ERROR_PERTURBATION_NOT_CONVERGED", which="; ".join(run.unconverged))
        return None if only_scf else self._tensors(atoms)

    def _tensors(self, atoms: int) -> ExitCode | None:
        text = self._text(files.ANADDB_LOG)
        if "run completed" not in text:
            said = read_errors(text) + read_errors(self._text(files.MRGDDB_LOG))
            return self._exit("ERROR_ANADDB", reason="; ".join(said) or f"{files.ANADDB_LOG} ends early")
        try:
            tensors = read_anaddb(text, atoms)
        except BadInput as error:
            return self._exit("ERROR_OUTPUT_UNREADABLE", reason=str(error))
        node = orm.ArrayData()
        for name, tensor in tensors.items():
            node.set_array(name, np.ascontiguousarray(tensor))
        self.out("tensors", node)
        return None

    def _broken(self, output: str, run: Run) -> ExitCode | None:
        """Return why a run ended early; None leaves the exit code of the scheduler as it is."""
        errors = read_errors(self._text(files.ABINIT_LOG))
        stderr = "\n".join(
            [
                self._text(files.ABINIT_ERRORS),
                self._text(self.node.get_option("scheduler_stderr") or ""),
                self._text(files.ABINIT_LOG)[-3000:],
            ]
        )
        for words, label in ERRORS:
            for message in errors:
                if any(word in message for word in words):
                    return self._exit(label, reason=_memory(message, run) if "MEMORY" in label else message)
        if errors:
            return self._exit("ERROR_ABINIT", reason=errors[0])
        for words, label in ENDED:
            if any(word in stderr for word in words):
                said = _memory("", run) if "MEMORY" in label else "it cannot be read to its end"
                return self._exit(label, reason=said)
        if self.node.exit_status:  # the scheduler knows why
            return None
        if not output:
            return self._exit("ERROR_NO_OUTPUT", reason=" ".join(stderr.split())[-300:])
        return self._exit("ERROR_KILLED")

    def _exit(self, label: str, **words: Any) -> ExitCode:
        return self.exit_codes[label].format(**words)

    def _text(self, name: str) -> str:
        try:
            content = self.retrieved.base.repository.get_object_content(name, "rb")
        except (FileNotFoundError, IsADirectoryError, TypeError):
            return ""
        return bytes(content).decode("utf-8", "replace")


def run_facts(run: Run) -> dict[str, Any]:
    """Return a run as plain values: energies in eV, stress in GPa, frequencies in THz; what is unknown is absent."""
    facts: dict[str, Any] = {
        "version": run.version,
        "done": run.done,
        "scf_converged": run.scf_converged,
        "scf_steps": run.scf_steps,
        "unconverged": list(run.unconverged),
        "finished": {str(n): list(numbers) for n, numbers in run.finished.items()},
        "energy_ev": run.total_energy,
        "stress_gpa": list(run.stress) if run.stress else None,
        "max_force_ev_per_a": run.max_force,
        "memory_estimate_mb": run.memory,
        "space_group": run.space_group,
    }
    if run.raw_charges is not None:
        facts["charge_neutrality_violation"] = float(np.abs(run.raw_charges.sum(axis=0)).max())
    if run.raw_frequencies is not None:
        acoustic = sorted(run.raw_frequencies, key=abs)[:3]
        facts["acoustic_before_sum_rule"] = acoustic
        facts["acoustic_sum_rule_violation"] = max(abs(x) for x in acoustic)
    return {key: value for key, value in facts.items() if value is not None and value != ""}


def _memory(message: str, run: Run) -> str:
    said = f"ABINIT needs up to {run.memory:.0f} MB by its own estimate" if run.memory else "its need is unknown"
    return f"{said}; give the job more memory or more processes, or lower ecut. {message}".strip()
