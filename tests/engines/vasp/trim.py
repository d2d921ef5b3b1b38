"""Cut outputs of real VASP runs down to what is read: ``python trim.py SOURCE TARGET``. No number is changed.

Kept of an OUTCAR: the first lines, the settings and iterations that tell whether it ended well, the tables of the
tensors, the timing. Left out of a vasprun.xml: eigenvalues, densities of states, projections.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from itertools import groupby
from pathlib import Path

LINES = re.compile(r"NIONS|NKPTS|NELM |NSW  |IBRION =|ISIF  =|GGA   =|Iteration|TITEL|2PiTHz")
TABLES = re.compile(r"^\s*(PIEZOELECTRIC TENSOR|(SYMMETRIZED |TOTAL )?ELASTIC MODULI|MACROSCOPIC STATIC)")
LONG = 10
DROPPED = ("eigenvalues", "dos", "projected", "dielectricfunction")


def outcar(text: str) -> str:
    """Return the lines that matter."""
    lines = text.split("\n")
    keep = set(range(5)) | {i for i, line in enumerate(lines) if LINES.search(line)}
    for i, line in enumerate(lines):
        if TABLES.search(line):
            keep |= set(range(i, min(len(lines), i + LONG)))
        if "General timing" in line:
            keep |= set(range(i, len(lines)))
    return "\n".join(lines[i] for i in sorted(keep))


def vasprun(source: Path, target: Path) -> None:
    """Write the file without its bulk."""
    tree = ET.parse(source)
    for parent in tree.getroot().iter():
        for child in [c for c in parent if c.tag in DROPPED]:
            parent.remove(child)
    for calculation in tree.getroot().findall("calculation"):
        for step in calculation.findall("scstep")[:-1]:
            calculation.remove(step)
    tree.write(target, encoding="ISO-8859-1", xml_declaration=True)


def inputs(source: Path, target: Path) -> None:
    """Write INCAR, KPOINTS and POSCAR as the vasprun.xml records them, where the run has left none."""
    root = ET.parse(source).getroot()
    tags = {i.get("name"): (i.text or "").strip() for i in root.find("incar") if i.tag == "i"}
    (target / "INCAR").write_text("".join(f"{tag} = {value}\n" for tag, value in tags.items()))
    mesh = root.find("kpoints/generation/v[@name='divisions']").text
    (target / "KPOINTS").write_text(f"mesh of the vasprun.xml\n0\nGamma\n{mesh}\n0 0 0\n")
    start = next(s for s in root.findall("structure") if s.get("name") == "initialpos")
    cell, places = (
        "\n".join((v.text or "").strip() for v in start.findall(f".//varray[@name='{name}']/v"))
        for name in ("basis", "positions")
    )
    symbols = [(rc[0].text or "").strip() for rc in root.findall("atominfo/array[@name='atoms']/set/rc")]
    groups = [(e, len(list(g))) for e, g in groupby(symbols)]
    head = f"{' '.join(e for e, _ in groups)}\n{' '.join(str(n) for _, n in groups)}"
    poscar = f"as the vasprun.xml has it\n1.0\n{cell}\n{head}\nDirect\n{places}\n"
    for name in ("POSCAR", "CONTCAR"):
        (target / name).write_text(poscar)


def main(source: Path, target: Path) -> None:
    """Trim a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "OUTCAR").write_text(outcar((source / "OUTCAR").read_text()))
    vasprun(source / "vasprun.xml", target / "vasprun.xml")
    if not (source / "INCAR").is_file():
        inputs(source / "vasprun.xml", target)
    for name in ("INCAR", "KPOINTS", "POSCAR", "CONTCAR"):
        if (source / name).is_file():
            (target / name).write_text((source / name).read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
