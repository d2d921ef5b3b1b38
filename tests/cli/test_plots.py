"""Pictures show what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from crysgen_aiida.cli.plots import _point, bands_figure, elastic_figure, phonon_figure, young_modulus

C11, C12, C44 = 166.0, 64.0, 80.0  # silicon [GPa]
SILICON = np.diag([C11] * 3 + [C44] * 3) + C12 * (np.kron(np.diag([1, 0]), np.ones((3, 3)) - np.eye(3)))


def test_young_modulus_of_silicon_by_direction_is_that_of_the_textbook():
    directions = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])
    found = young_modulus(np.linalg.inv(SILICON), directions)
    s = np.linalg.inv(SILICON)
    # 1 / E = s11 - 2 (s11 - s12 - s44 / 2) (l²m² + m²n² + l²n²) in a cubic crystal
    shares = [0, 1 / 4, 1 / 3]
    wanted = [1 / (s[0, 0] - 2 * (s[0, 0] - s[0, 1] - s[3, 3] / 2) * share) for share in shares]
    np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(found, [130, 169, 188], atol=2)  # J. J. Hall, Phys. Rev. 161, 756 (1967)


def test_an_isotropic_solid_is_a_circle_in_every_plane():
    lame, mu = 60.0, 40.0
    isotropic = np.diag([2 * mu] * 3 + [mu] * 3) + lame * np.kron(np.diag([1, 0]), np.ones((3, 3)))
    modulus = mu * (3 * lame + 2 * mu) / (lame + mu)
    for axes in elastic_figure(isotropic).axes:
        np.testing.assert_allclose(axes.lines[0].get_ydata(), modulus)


def test_phonon_segments_that_do_not_meet_are_labelled_with_both_names():
    record = {
        "primitive_lattice": (4 * np.eye(3)).ravel().tolist(),
        "band_labels": ["GAMMA", "X", "M", "GAMMA"],
        "band_lengths": [3, 2],
        "band_qpoints": [0, 0, 0, 0.25, 0, 0, 0.5, 0, 0, 0.5, 0.5, 0, 0, 0, 0],
        "band_frequencies": np.arange(15).tolist(),
        "dos": [0.0, 1.0],
        "dos_frequencies": [0.0, 5.0],
    }
    left, right = phonon_figure(record).axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["Γ", "X|M", "Γ"]
    np.testing.assert_allclose(left.get_xticks(), [0, 0.125, 0.125 + 0.125 * 2**0.5])
    assert len(left.get_lines()) == 2 * 3 + 1 + 3, "three branches in two segments, zero, three ticks"
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), [0, 5])


@pytest.mark.usefixtures("aiida_profile")
def test_electronic_bands_are_drawn_from_the_fermi_level():
    from aiida.orm import BandsData

    node = BandsData()
    node.set_cell((5 * np.eye(3)).tolist())
    kpoints = [[x, 0, 0] for x in np.linspace(0, 0.5, 5)]
    node.set_kpoints(kpoints, labels=[(0, "GAMMA"), (4, "X_1")])
    node.set_bands(np.array([[1.0, 3.0]] * 5), units="eV")
    axes = bands_figure(node, fermi=2.0).axes[0]
    drawn = [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) == 5]
    np.testing.assert_allclose(drawn, [[-1] * 5, [1] * 5])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Γ", "X₁"]
    assert axes.get_xlim()[1] == pytest.approx(0.1), "half of 1 / 5 A"
    assert _point("SIGMA_0") == "Σ₀"
