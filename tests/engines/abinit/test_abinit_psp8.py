"""UPF to psp8: the numbers of the official psp8 files, and a sentence for what cannot be converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.engines.abinit.psp8 import read_psp8_header, upf_to_psp8

OFFICIAL = Path("/usr/share/abinit/psp/Pseudodojo_nc_sr_04_pbe_standard_psp8")
POINTS, STEP = 700, 0.01


def made_up(**changes: Any) -> str:
    """Return a UPF file of a made-up potential: erf-screened Coulomb, two Gaussian projectors, a Gaussian core."""
    from scipy.special import erf

    r = np.arange(POINTS) * STEP
    with np.errstate(invalid="ignore", divide="ignore"):
        local = np.where(r > 0, -2 * 4 * erf(r / 0.5) / r, -2 * 4 * 2 / np.sqrt(np.pi) / 0.5)
    core = 0.3 * np.exp(-4 * r**2)
    header = {
        "element": "Si",
        "pseudo_type": "NC",
        "has_so": "F",
        "core_correction": "T",
        "functional": "PBE",
        "z_valence": "4.00",
        "number_of_proj": "2",
        "date": "171031",
    }
    header.update({k: v for k, v in changes.items() if k in header or k.startswith("is_")})
    r = changes.get("mesh", r)
    coupling = changes.get("coupling", 0.0)
    betas = [r * np.exp(-3 * r**2), 2 * r**2 * np.exp(-2 * r**2)]

    def numbers(values: Any) -> str:
        return "\n".join(f"{float(x):.14e}" for x in np.ravel(values))

    attributes = " ".join(f'{k}="{v}"' for k, v in header.items())
    projectors = "".join(
        f'<PP_BETA.{i + 1} angular_momentum="{i}">{numbers(beta)}</PP_BETA.{i + 1}>' for i, beta in enumerate(betas)
    )
    return (
        f'<UPF version="2.0.1"><PP_INFO> a < b & c </PP_INFO><PP_HEADER {attributes}/>'
        f"<PP_MESH><PP_R>{numbers(r)}</PP_R></PP_MESH><PP_NLCC>{numbers(core)}</PP_NLCC>"
        f"<PP_LOCAL>{numbers(local)}</PP_LOCAL><PP_NONLOCAL>{projectors}"
        f"<PP_DIJ>{numbers([[3.0, coupling], [coupling, -2.0]])}</PP_DIJ></PP_NONLOCAL></UPF>"
    )


def read(text: str) -> dict[str, Any]:
    """Read a psp8 file as its documentation says: energies and projectors by channel, local part, core charge."""
    lines = text.splitlines()
    lmax, lloc, n = (int(x) for x in lines[2].split()[2:5])
    with_core = float(lines[3].split()[1]) > 0
    counts = [int(x) for x in lines[4].split()[:5]]
    at = 6
    if int(lines[5].split()[0]) not in (0, 1):
        raise AssertionError(lines[5])
    held: dict[str, Any] = {"energies": {}, "projectors": {}}
    for channel in range(lmax + 1):
        words = lines[at].replace("D", "E").split()
        assert int(words[0]) == channel
        held["energies"][channel] = [float(x) for x in words[1 : 1 + counts[channel]]]
        block = np.array([row.replace("D", "E").split() for row in lines[at + 1 : at + 1 + n]], dtype=float)
        held["projectors"][channel] = block[:, 2 : 2 + counts[channel]].T
        at += 1 + n
    assert int(lines[at].split()[0]) == lloc
    block = np.array([row.replace("D", "E").split() for row in lines[at + 1 : at + 1 + n]], dtype=float)
    held["r"], held["local"] = block[:, 1], block[:, 2]
    at += 1 + n
    if with_core:
        held["core"] = np.array([row.replace("D", "E").split() for row in lines[at : at + n]], dtype=float)[:, 2:].T
    return held


def test_units_norms_and_derivatives():
    made = read(upf_to_psp8(made_up(), "Si.upf"))
    r = made["r"]
    assert len(r) % 2 == 0
    assert r[-1] > 5.9
    assert made["local"][0] == pytest.approx(-16 / np.sqrt(np.pi), rel=1e-12)  # Hartree
    assert made["local"][-1] == pytest.approx(-4 / r[-1], rel=1e-9)
    fine = np.arange(POINTS) * STEP
    for channel, (strength, beta) in enumerate(
        [(3.0, fine * np.exp(-3 * fine**2)), (-2.0, 2 * fine**2 * np.exp(-2 * fine**2))]
    ):
        (projector,) = made["projectors"][channel]
        assert np.trapezoid(projector**2, r) == pytest.approx(1, abs=1e-10)
        (energy,) = made["energies"][channel]
        # the operator is the same: |beta> D <beta|, D in Rydberg
        assert energy * projector**2 == pytest.approx(0.5 * strength * beta[: len(r)] ** 2, abs=1e-12)
    core = 4 * np.pi * 0.3 * np.exp(-4 * r**2)
    exact = [core, -8 * r * core, (64 * r**2 - 8) * core, (192 * r - 512 * r**3) * core]
    for derivative, expected in zip(made["core"], exact, strict=False):
        assert derivative == pytest.approx(expected, abs=1e-6 * np.abs(expected).max())


def test_the_head_says_what_it_is():
    head = read_psp8_header(upf_to_psp8(made_up(functional="SLA PW PBX PBC"), "Si.upf"))
    assert (head.atomic_number, head.valence, head.ixc, head.functional) == (14, 4.0, 11, "pbe")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pseudo_type": "PAW"}, "is a PAW data set"),
        ({"pseudo_type": "US"}, "is ultrasoft"),
        ({"is_ultrasoft": "T"}, "only norm-conserving"),
        ({"has_so": ".true."}, "spin-orbit terms"),
        ({"functional": "SCAN"}, "the functional 'SCAN'"),
        ({"element": "Xx"}, "no chemical element"),
        ({"mesh": np.geomspace(1e-4, 7, POINTS)}, "not linear from zero"),
        ({"coupling": 0.5}, "couples different projectors"),
    ],
)
def test_what_cannot_be_converted_is_said(changes, why):
    with pytest.raises(BadInput, match=why) as error:
        upf_to_psp8(made_up(**changes), "Si.upf")
    assert str(error.value).endswith(".")
    assert "Si.upf" in str(error.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no UPF 2"),
        ("<PP_HEADER>", "no UPF 2"),
        ('<UPF version="2.0.1"><PP_MESH>', "damaged"),
        ('<UPF version="2.0.1"></UPF>', "no PP_HEADER"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><UPF version="2.0.1"></UPF>', "entities"),
        (made_up().replace("<PP_LOCAL>", "<PP_OTHER>").replace("</PP_LOCAL>", "</PP_OTHER>"), "no PP_LOCAL"),
        (made_up().replace("<PP_R>", "<PP_R>x "), "no number"),
    ],
)
def test_damaged_files_are_refused(text, why):
    with pytest.raises(BadInput, match=why):
        upf_to_psp8(text, "Si.upf")


@pytest.mark.parametrize(
    ("text", "why"),
    [("hello", "no psp8"), ("a\n14 4\n6 11\n\n\n0\n", "kind 6"), ("a\n14 4\n8 11\n\n\n3\n", "spin-orbit")],
)
def test_other_files_are_no_psp8(text, why):
    with pytest.raises(BadInput, match=why):
        read_psp8_header(text)


@pytest.mark.parametrize("element", ["Al", "N", "Si"])
def test_the_numbers_are_those_of_the_official_file(upf_folder, element):
    if not (OFFICIAL / f"{element}.psp8").is_file():
        pytest.skip("No official psp8 files: apt-get install abinit-data.")
    ours = read(upf_to_psp8((upf_folder / f"{element}.upf").read_text(), f"{element}.upf"))
    theirs = read((OFFICIAL / f"{element}.psp8").read_text())
    n = min(len(ours["r"]), len(theirs["r"]))
    assert ours["r"][:n] == pytest.approx(theirs["r"][:n], abs=1e-12)
    assert ours["local"][:n] == pytest.approx(theirs["local"][:n], abs=1e-9)
    for channel, energies in theirs["energies"].items():
        pairs = zip(ours["projectors"][channel], theirs["projectors"][channel], strict=True)
        for energy, expected, (p, q) in zip(ours["energies"][channel], energies, pairs, strict=True):
            # the official projectors have norms within 1e-5 of one; the operator is energy times their square
            norm = np.trapezoid(q**2, theirs["r"])
            assert energy == pytest.approx(expected * norm, rel=1e-6)
            assert np.sign(p[:n] @ q[:n]) * p[:n] == pytest.approx(q[:n], abs=5e-4)  # UPF cuts their last points
    scale = np.abs(theirs["core"]).max(axis=1)
    for order, tolerance in enumerate((1e-9, 1e-6, 1e-5, 1e-3, 5e-2)):
        assert ours["core"][order, :n] == pytest.approx(theirs["core"][order, :n], abs=tolerance * scale[order])


def test_every_potential_of_the_folder_converts(upf_folder):
    for path in sorted(upf_folder.glob("*.upf")):
        head = read_psp8_header(upf_to_psp8(path.read_text(), path.name))
        assert head.valence > 0
        assert head.functional == "pbe"
