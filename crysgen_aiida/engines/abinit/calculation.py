"""AbinitDfptCalculation: ABINIT, mrgddb and anaddb in one job, from a crystal to its tensors."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJob

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.abinit import inputs as files
from crysgen_aiida.engines.abinit.inputs import Parameters, abinit_input
from crysgen_aiida.engines.abinit.outputs import NOT_CONVERGED
from crysgen_aiida.engines.abinit.psp8 import FUNCTIONAL_NAMES, Psp8Header, read_psp8_header

PSEUDOS = "pseudos"
#: Share of the wall-time limit of a job after which it is ended, so that the rest of the script still runs.
SHARE_OF_WALLTIME = 0.95

_CLEAN = "rm -f out_DS*_1WF* out_DS*_WFK out_DS*_DEN* out_DS*_POT* out_DS*.nc out_OUT.nc tmp_* run_* in_DS*"


class AbinitDfptCalculation(CalcJob):
    """All second derivatives of the energy of an insulator: fields, displacements at Gamma, homogeneous strains.

    ABINIT runs three datasets (self-consistent; derivatives with respect to k; all perturbations), mrgddb merges their
    databases, anaddb makes tensors. With ``only_scf`` the first alone is run, to judge a crystal before the rest is
    paid for. Wave functions are deleted at the end of a run that converged; others keep them for the next one.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="abinit, of version 9 or later.")
        spec.input("mrgddb", valid_type=orm.AbstractCode, required=False, help="mrgddb; not needed for only_scf.")
        spec.input("anaddb", valid_type=orm.AbstractCode, required=False, help="anaddb; not needed for only_scf.")
        spec.input("structure", valid_type=orm.StructureData, help="The crystal; tensors come in its axes.")
        spec.input_namespace(
            "pseudos", valid_type=orm.SinglefileData, dynamic=True, help="psp8 pseudopotentials by element."
        )
        spec.input(
            "parameters",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=_validate_parameters,
            help="See crysgen_aiida.engines.abinit.inputs.Parameters.",
        )
        spec.input(
            "only_scf",
            valid_type=orm.Bool,
            default=lambda: orm.Bool(False),
            serializer=orm.to_aiida_type,
            help="Stop after the self-consistent run.",
        )
        spec.input("parent_folder", valid_type=orm.RemoteData, required=False, help="Folder of a run to go on from.")
        spec.input(
            "finished",
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help="Which files of the parent are whole, as its output says: dataset to numbers.",
        )
        spec.inputs.validator = _validate_together
        spec.output("output_parameters", valid_type=orm.Dict, help="Energy, convergence, facts of the run.")
        spec.output("tensors", valid_type=orm.ArrayData, required=False, help="See crysgen_aiida.engines.contract.")
        spec.inputs["metadata"]["options"]["parser_name"].default = "crysgen.abinit.dfpt"
        spec.inputs["metadata"]["options"]["resources"].default = lambda: {
            "num_machines": 1,
            "num_mpiprocs_per_machine": 1,
        }
        spec.inputs["metadata"]["options"]["withmpi"].default = False
        for status, (label, message) in EXIT_CODES.items():
            spec.exit_code(status, label, message=message, invalidates_cache=True)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the inputs and list what to copy there and back."""
        only_scf = bool(self.inputs.only_scf.value)
        structure = to_pymatgen(self.inputs.structure)
        elements = list(dict.fromkeys(site.specie.symbol for site in structure))
        where = {element: f"{PSEUDOS}/{element}.psp8" for element in elements}
        text = abinit_input(
            structure,
            where,
            valence_electrons(self.inputs.structure, self.inputs.pseudos),
            Parameters.from_dict(self.inputs.parameters.get_dict()),
            only_scf=only_scf,
            restart="parent_folder" in self.inputs,
        )
        for name, content in [
            (files.ABINIT_INPUT, text),
            (files.MRGDDB_INPUT, files.MRGDDB),
            (files.ANADDB_INPUT, files.ANADDB),
        ]:
            with folder.open(name, "w", encoding="utf-8") as handle:
                handle.write(content)
        info = CalcInfo()
        info.local_copy_list = [
            (self.inputs.pseudos[e].uuid, self.inputs.pseudos[e].filename, path) for e, path in where.items()
        ]
        info.remote_symlink_list = self._links(only_scf)
        info.codes_info = [_run(self.inputs.code, [files.ABINIT_INPUT], files.ABINIT_LOG, errors=files.ABINIT_ERRORS)]
        if not only_scf:
            info.codes_info += [
                _run(self.inputs.mrgddb, [], files.MRGDDB_LOG, stdin=files.MRGDDB_INPUT, serial=True),
                _run(self.inputs.anaddb, [files.ANADDB_INPUT], files.ANADDB_LOG, serial=True),
            ]
            whole = f"grep -qs 'run completed' {files.ANADDB_LOG}"
            info.append_text = f"if {whole} && ! grep -qs '{NOT_CONVERGED}' {files.ABINIT_OUTPUT}; then {_CLEAN}; fi"
        info.codes_run_mode = CodeRunMode.SERIAL
        info.prepend_text = self._limits()
        info.retrieve_list = [files.ABINIT_OUTPUT, files.ABINIT_LOG, files.ABINIT_ERRORS, files.EIGENVALUES]
        if not only_scf:
            info.retrieve_list += [files.MRGDDB_LOG, files.ANADDB_LOG, files.MERGED]
        return info

    def _limits(self) -> str:
        """Return shell lines that end ABINIT in time.

        ``--timelimit`` of ABINIT takes one dataset only, and core.direct enforces no limit: the shell's limit of
        processor time does, for a program of one thread; schedulers do for others.
        """
        seconds = self.options.get("max_wallclock_seconds", None)
        lines = ["export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}"]
        if seconds and not self.options.get("withmpi", False):
            lines.append(f'test "$OMP_NUM_THREADS" != 1 || ulimit -S -t {max(1, int(SHARE_OF_WALLTIME * seconds))}')
        return "\n".join(lines)

    def _links(self, only_scf: bool) -> list[tuple[str, str, str]]:
        """Return links to the whole files of the parent; what ABINIT does not find it starts anew."""
        if "parent_folder" not in self.inputs:
            return []
        parent = self.inputs.parent_folder
        source = PurePosixPath(parent.get_remote_path())
        finished = self.inputs.finished.get_dict() if "finished" in self.inputs else {}
        names = [("out_DS1_WFK", "in_DS1_WFK")] if finished.get("1") else []
        if not only_scf:
            names += [
                (f"out_DS{dataset}_1WF{number}", f"in_DS{dataset}_1WF{number}")
                for dataset in (files.DDK, files.RESPONSE)
                for number in finished.get(str(dataset), [])
            ]
        return [(parent.computer.uuid, str(source / ours), theirs) for ours, theirs in names]


#: Status to label and sentence.
EXIT_CODES: dict[int, tuple[str, str]] = {
    310: ("ERROR_NO_OUTPUT", "ABINIT left no output: it could not start. {reason}"),
    311: ("ERROR_OUTPUT_UNREADABLE", "The output could not be read: {reason}"),
    320: ("ERROR_OUT_OF_WALLTIME", "The wall-time limit was reached; whole files are kept and the run can go on."),
    321: ("ERROR_OUT_OF_MEMORY", "Memory ran out: {reason}"),
    322: ("ERROR_KILLED", "ABINIT was killed before it ended; whole files are kept and the run can go on."),
    330: ("ERROR_SCF_NOT_CONVERGED", "The self-consistent run did not converge in {steps} steps."),
    331: ("ERROR_PERTURBATION_NOT_CONVERGED", "Not converged: {which}."),
    340: ("ERROR_METAL", "The crystal is a metal at the k-points computed (gap {gap:.2f} eV); fields are screened."),
    350: ("ERROR_SYMMETRY", "ABINIT cannot make a group of the symmetries it finds: {reason}"),
    351: ("ERROR_MESH_SYMMETRY", "The mesh of k-points has not the symmetry of the crystal; set chksymbreak to 0."),
    352: ("ERROR_PSEUDOPOTENTIAL", "ABINIT cannot use a pseudopotential: {reason}"),
    360: ("ERROR_ABINIT", "ABINIT stopped: {reason}"),
    361: ("ERROR_ANADDB", "mrgddb or anaddb made no tensors: {reason}"),
}


def headers(pseudos: Any) -> dict[str, Psp8Header]:
    """Return the heads of psp8 nodes by element.

    :raises BadInput: naming the file, if one is no psp8.
    """
    held = {}
    for element, node in pseudos.items():
        with node.open(mode="r") as handle:
            held[element] = read_psp8_header("".join(handle.readline() for _ in range(6)), node.filename)
    return held


def valence_electrons(structure: orm.StructureData, pseudos: Any) -> int:
    """Return the number of valence electrons of the cell.

    :raises BadInput: if it is no whole number.
    """
    held = headers(pseudos)
    total = sum(held[structure.get_kind(site.kind_name).symbols[0]].valence for site in structure.sites)
    if abs(total - round(total)) > 1e-6:
        raise BadInput(f"The pseudopotentials give {total} valence electrons, no whole number; give other ones.")
    return round(total)


def _run(
    code: orm.AbstractCode, words: list[str], out: str, *, stdin: str = "", errors: str = "", serial: bool = False
) -> CodeInfo:
    info = CodeInfo()
    info.code_uuid = code.uuid
    info.cmdline_params = words
    info.stdout_name = out
    if stdin:
        info.stdin_name = stdin
    if errors:
        info.stderr_name = errors
    else:
        info.join_files = True
    if serial:
        info.withmpi = False
    return info


def _validate_parameters(node: Any, _: Any) -> str | None:
    try:
        Parameters.from_dict(node.get_dict())
    except (BadInput, TypeError, ValueError) as error:
        return str(error)
    return None


def _validate_together(inputs: Any, _: Any) -> str | None:
    if not {"structure", "pseudos", "only_scf", "parameters"} <= set(inputs):
        return None
    if not inputs["only_scf"].value:
        absent = [role for role in ("mrgddb", "anaddb") if role not in inputs]
        if absent:
            return f"The codes {' and '.join(absent)} are needed beside abinit; give them, or only_scf."
    structure, pseudos = inputs["structure"], inputs["pseudos"]
    elements = {symbol for kind in structure.kinds for symbol in kind.symbols}
    missing = sorted(elements - set(pseudos))
    if missing:
        return f"There is no pseudopotential for {', '.join(missing)}; give pseudos.{missing[0]}."
    try:
        to_pymatgen(structure)
        held = headers({element: pseudos[element] for element in elements})
        electrons = valence_electrons(structure, pseudos)
    except BadInput as error:
        return str(error)
    return wrong_elements(held) or functional_trouble(held) or odd_electrons(electrons)


def wrong_elements(held: dict[str, Psp8Header]) -> str | None:
    """Return a sentence if a pseudopotential is for another element than it is given for."""
    from crysgen_aiida.data.elements import NUMBERS

    wrong = [
        f"{element} (atomic number {h.atomic_number})"
        for element, h in held.items()
        if NUMBERS[element] != h.atomic_number
    ]
    return f"A pseudopotential is for another element: {', '.join(wrong)}." if wrong else None


def functional_trouble(held: dict[str, Psp8Header]) -> str | None:
    """Return a sentence if pseudopotentials were made with different functionals, or one ABINIT has no response for."""
    strange = sorted({h.functional for h in held.values() if h.ixc not in FUNCTIONAL_NAMES})
    if strange:
        return f"There is no response here for the functional {strange[0]}; take LDA, PBE or PBEsol pseudopotentials."
    if len({h.ixc for h in held.values()}) < 2:
        return None
    said = ", ".join(f"{element} {h.functional}" for element, h in sorted(held.items()))
    return f"The pseudopotentials were made with different functionals ({said}); take all of one family."


def odd_electrons(electrons: int) -> str | None:
    """Return a sentence if bands cannot be filled by pairs."""
    if electrons % 2 == 0:
        return None
    return f"{electrons} valence electrons cannot fill bands by pairs: the crystal is a metal or magnetic."
