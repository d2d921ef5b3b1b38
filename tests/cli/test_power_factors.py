"""Power factors as a picture."""

from __future__ import annotations

import click
import numpy as np
import pyarrow as pa
import pytest

from crysgen_aiida.crystals.table import PropertyTable


@pytest.fixture(scope="module")
def transport():
    """A good row and a failed one, made of numbers: drawing needs no BoltzTraP2."""
    doping, curve = [1e18, 1e19, 1e20], np.arange(9.0)
    columns = {
        "status": ["ok", "failed"],
        "reason": [None, "no bands"],
        "reduced_formula": ["GeTe", "Si"],
        "temperature": [300.0, None],
        "doping": pa.array([doping, None]),
        "best_carriers": ["p", None],
        "best_axis": ["z", None],
        "best_doping": [1e20, None],
        "power_factor_over_tau": [8.0, None],
        "power_factor_over_tau_n": pa.array([(curve / 2).tolist(), None]),
        "power_factor_over_tau_p": pa.array([curve.tolist(), None]),
    }
    return PropertyTable(pa.table(columns))


def test_the_picture_says_carriers_axes_and_the_greatest(transport, tmp_path):
    from crysgen_aiida.cli.power_factors import plot_power_factor

    plot_power_factor(transport, 0, tmp_path / "pf.svg")
    text = (tmp_path / "pf.svg").read_text()
    for said in ("GeTe, 300 K", "electrons, x", "holes, z", "greatest: holes, z", "doping [1/cm³]"):
        assert said in text
    first = (tmp_path / "pf.svg").read_bytes()
    plot_power_factor(transport, 0, tmp_path / "pf.svg", overwrite=True)
    assert (tmp_path / "pf.svg").read_bytes() == first
    plot_power_factor(transport, 0, tmp_path / "pf.png")
    assert (tmp_path / "pf.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_drawn_where_they_are(transport):
    from crysgen_aiida.cli.power_factors import power_factor_figure

    lines = power_factor_figure(transport, 0).axes[0].lines
    assert len(lines) == 7
    np.testing.assert_allclose(lines[5].get_ydata(), [2.0, 5.0, 8.0])
    assert (lines[6].get_xdata()[0], lines[6].get_ydata()[0]) == (1e20, 8.0)


def test_what_cannot_be_drawn_is_refused(transport, tmp_path):
    from crysgen_aiida.cli.power_factors import plot_power_factor

    with pytest.raises(click.ClickException, match="no bands"):
        plot_power_factor(transport, 1, tmp_path / "pf.svg")
    with pytest.raises(click.ClickException, match="no table of transport"):
        plot_power_factor(PropertyTable(pa.table({"status": ["ok"]})), 0, tmp_path / "pf.svg")
    with pytest.raises(click.ClickException, match="does not end in"):
        plot_power_factor(transport, 0, tmp_path / "pf.pdf")
