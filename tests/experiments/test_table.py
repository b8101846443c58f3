"""The picture of an ablation."""

from __future__ import annotations

import pytest

from tm_torchrl.experiments.table import Entry, plot


def test_one_seed_is_drawn_as_a_point_without_an_interval() -> None:
    """Rates of 1 and 1 - 1e-10 are the same within the digits of the axis."""
    one = [
        Entry("iqn", measures={0: {"finish_rate": 1.0, "final_lap_s": 30.0}}),
        Entry("new", measures={0: {"finish_rate": 1.0 - 1e-10, "final_lap_s": 29.0}}, is_kept=True),
    ]
    figure = plot(one)
    figure.draw_without_rendering()
    lap, rate = figure.axes
    assert [line.get_marker() for line in lap.lines] == ["o", "None", "o"], "a point each, and the baseline"
    low, high = rate.get_xlim()
    assert high - low >= 4 * 10**-3, "two units of the last digit to each side"
    assert all(len(label.get_text()) == len("1.000") for label in rate.get_xticklabels())
    assert figure.get_supxlabel() == "One seed: no intervals. Dotted line: iqn. Green: kept."


def test_several_seeds_have_intervals() -> None:
    laps = {seed: {"final_lap_s": lap} for seed, lap in enumerate([30.0, 31.0, 33.0])}
    figure = plot([Entry("iqn", measures=laps)])
    (axes,) = figure.axes
    assert [line.get_marker() for line in axes.lines] == ["None", "|", "o", "None"]
    assert axes.lines[0].get_xdata() == pytest.approx([30.0, 33.0], abs=1.0)
    assert figure.get_supxlabel().startswith("Dots: seeds.")
    assert "Green" not in figure.get_supxlabel()
