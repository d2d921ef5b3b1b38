"""Write crysgen_aiida/physics/elements.json: the elemental ground states that end every hull.

    pip download --no-deps --no-binary :all: matcalc==0.7.0
    python tools/build_element_structures.py matcalc-0.7.0.tar.gz

Structures of the Materials Project (PBE), collected by matcalc (BSD-3-Clause); coordinates rounded to 1e-6.
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from pathlib import Path

MEMBER = "src/matcalc/elemental_refs/MP-PBE-Element-Refs.json.gz"
TARGET = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "physics" / "elements.json"


def main(archive: str) -> None:
    """Read the matcalc source archive and write the file."""
    from pymatgen.core import Element, Structure

    with tarfile.open(archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith(MEMBER))
        handle = tar.extractfile(member)
        assert handle is not None
        table = json.loads(gzip.decompress(handle.read()))
    structures, energies = {}, {}
    for symbol, held in table.items():
        energy, lowest = min(zip(held["energy_per_atom"], range(len(held["energy_per_atom"])), strict=True))
        structure = Structure.from_dict(held["structure"][lowest]).get_primitive_structure()
        z = Element(symbol).Z
        structures[z] = {
            "lattice": [[round(float(x), 6) + 0.0 for x in row] for row in structure.lattice.matrix],
            "frac_coords": [[round(float(x) % 1.0, 6) + 0.0 for x in row] for row in structure.frac_coords],
        }
        energies[z] = round(float(energy), 6)
    # not in matcalc's table: ytterbium is face-centred cubic, a = 5.45 A by PBE
    fcc = [[0.0, 2.725, 2.725], [2.725, 0.0, 2.725], [2.725, 2.725, 0.0]]
    structures[70] = {"lattice": fcc, "frac_coords": [[0.0, 0.0, 0.0]]}
    lines = [f'  "{z}": {json.dumps(structures[z], separators=(",", ":"))}' for z in sorted(structures)]
    source = {"package": Path(archive).name, "member": MEMBER, "licence": "BSD-3-Clause; data CC-BY-4.0"}
    head = f'{{"source": {json.dumps(source)},\n "pbe_energy_per_atom": {json.dumps(dict(sorted(energies.items())))},\n'
    TARGET.write_text(head + ' "structures": {\n' + ",\n".join(lines) + "\n }}\n", encoding="utf-8")
    print(f"{len(structures)} elements, {TARGET.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
