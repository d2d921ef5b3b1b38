"""Write ``crysgen_aiida/starter/fingerprints.parquet``: site fingerprints of the starter crystals with a known tensor.

    python tools/build_starter_fingerprints.py [--threads 2]

These 931 crystals are what the paper on piezoelectrics learned from, as far as it is public; the dissimilarity of a
candidate is measured to them. Fingerprints of all 6,299 crystals take seven times as long (about 18 core minutes) and
as much room; ``crysgen dataset fingerprint DATASET`` makes them where they are wanted. Needs matminer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.screening.fingerprints import fingerprint_set

STARTER = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "starter"
LABEL = "piezo_max"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=STARTER / "fingerprints.parquet")
    asked = parser.parse_args()
    crystals = CrystalSet.read(STARTER / "crystals.parquet")
    run = InProcess(threads=asked.threads, on_progress=lambda stage, done, total, _: print(f"{stage} {done}/{total}"))
    table = fingerprint_set(crystals, labelled=[LABEL], run=run)
    # the rows that were not asked for say nothing: the row of the set is the column parent_row
    kept = table.take([row for row, status in enumerate(table.column("status")) if status != "skipped"])
    kept.with_metadata(crystals=crystals.content_hash).write(asked.output)
    print(f"{int(kept.ok.sum())} of {len(kept)} rows have a fingerprint: {asked.output.name}")


if __name__ == "__main__":
    main()
