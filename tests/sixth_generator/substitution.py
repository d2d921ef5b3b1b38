"""Exchange elements of known crystals for others, as often as the training set uses them."""

import json

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import keyed_rng
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import SequenceSet


def pack(texts, label, parents, **columns):
    status, reasons = zip(*(("ok", None) if t else ("failed", "no crystal") for t in texts), strict=False)
    base = {"sequence": texts, "status": status, "reason": pa.array(reasons, pa.string())}
    return SequenceSet(pa.table({**base, "parent_input": [label] * len(texts), "parent_row": parents, **columns}))


class Substitution:
    def prepare(self, crystals, spec, *, seed, run):
        rows = [[r["lattice"], r["numbers"], r["frac_coords"]] for r in crystals.iter()]
        split = ["val" if row % 10 == 9 else "train" for row in range(len(rows))]
        return pack([json.dumps(r) if r[0] else None for r in rows], "crystals", range(len(rows)), split=split)

    def train(self, training_set, spec, *, seed, run, start_from=None):
        known, counts = [t for t in training_set.column("sequence") if t], np.ones(86, dtype=np.float32)
        for step, text in enumerate(known):
            np.add.at(counts, np.array(json.loads(text)[1]) - 1, 1)
            run.progress("train", step + 1, len(known))
        (folder := run.folder / "checkpoint").mkdir(exist_ok=True)
        save_file({"counts": counts}, folder / "weights.safetensors")
        config = {"generator": "exchange", "generator_version": "1", "conditions": ["band_gap"], "seed": seed}
        (folder / "config.json").write_text(json.dumps({**config, "spec": {"swaps": spec.swaps}}))
        (folder / "vocabulary.json").write_text(json.dumps({"known": known}))
        (folder / "history.jsonl").write_text(json.dumps({"step": len(known), "val_loss": 1.0}) + "\n")
        return folder

    def sample(self, checkpoint, n, conditions, spec, *, seed, run):
        known = json.loads((checkpoint / "vocabulary.json").read_text())["known"]
        weights = load_file(checkpoint / "weights.safetensors")["counts"].astype(float)

        def one(row):
            rng = keyed_rng(seed, "sample", row)
            lattice, numbers, frac = json.loads(known[rng.integers(len(known))])
            for _ in range(spec.swaps):
                old, new = rng.choice(numbers), int(rng.choice(86, p=weights / weights.sum())) + 1
                numbers = [new if z == old else z for z in numbers]
            return json.dumps([lattice, numbers, frac])

        def part(rows):
            return pack([one(row) for row in rows], None, pa.nulls(len(rows), pa.int64()))

        columns = {property_field(k, "requested", column=f"target.{k}"): [float(v)] * n for k, v in conditions.items()}
        return run.map_rows("sample", n, part, part_rows=64).with_columns(columns)

    def decode(self, sequences, spec, *, seed, run, relaxer=None):
        from pymatgen.core import Structure

        def some(rows):
            held = [json.loads(text) for text in sequences.slice(rows).column("sequence")]
            found = [Structure(np.reshape(h[0], (3, 3)), h[1], np.reshape(h[2], (-1, 3))) for h in held]
            return CrystalSet.from_structures(found, parent_input="sequences", parent_rows=rows)

        return run.map_rows("decode", len(sequences), some, part_rows=64)
