"""Draw the curves on the pages of the algorithms, ``docs/images/algorithms``, from committed results.

python benchmarks/pages/algorithms.py

The quantile family's are those of the suite: interquartile means over seeds with 95 % intervals. Of policies and of
networks with memory, the results say when each seed had solved its task: their curves are the share of seeds that had.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.grids.cells import Suite
from benchmarks.grids.results import Results
from benchmarks.grids.scores import runs_of
from benchmarks.pages.figures import BESIDE, COLOURS, curve, legend_below
from benchmarks.results_file import RESULTS, read_results

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images" / "algorithms"
TASKS = {"hillside": "the default track, hillside", "cartpole": "CartPole-v1"}
FAMILY = {  # what each picture shows; the first is drawn in grey, to compare with
    "dqn": ("qrdqn", "dqn"),
    "qrdqn": ("dqn", "qrdqn", "m_qrdqn"),
    "iqn": ("qrdqn", "iqn", "iqn_double", "m_iqn"),
    "fqf": ("qrdqn", "fqf"),
    "nq": ("qrdqn", "nq", "nq_sampled"),
    "btr": ("m_iqn", "btr_floats"),
}
POLICIES = {
    "PPO": "ppo_{}",
    "GRPO, equal starts": "ppo_{}_grpo",
    "GRPO, mixed starts": "ppo_{}_mixed",
    "DPO": "ppo_{}_dpo",
}
MOST_FRAMES = 409_600  # of a run of a policy on the track


def solved_at(runs: Mapping[str, Any], key: str) -> list[int | None]:
    """Frames after which each seed had solved its task, or ``None`` if it never did."""
    return [run.get(key) for run in runs.values()]


def shares(solved: Sequence[int | None], until: int) -> tuple[list[int], list[float]]:
    """Frames, and the share of runs that had solved their task by then, as steps.

    >>> shares([200, None, 100, 100], 300)
    ([0, 100, 100, 200, 300], [0.0, 0.25, 0.5, 0.75, 0.75])
    """
    ends = sorted(frames for frames in solved if frames is not None and frames <= until)
    values = [number / len(solved) for number in range(len(ends) + 1)]
    return [0, *ends, until], [*values, values[-1]]


def family_figure(name: str, results: Results, suite: Suite) -> Figure:
    """Scores of some algorithms of the suite over frames, for each task."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    beside, *shown = FAMILY[name]
    for axes, (task, title) in zip(figure.subplots(1, len(TASKS), sharey=True), TASKS.items(), strict=True):
        curves = results.curves(task)
        for number, algorithm in enumerate([beside, *shown]):
            runs = runs_of(curves, algorithm)
            line = curve(runs)
            colour, dashes = (COLOURS[number - 1], "-") if number else (BESIDE, "--")
            label = f"{suite.algorithms[algorithm]['title']} ({len(runs)})"
            axes.plot(line["frames"], line["value"], dashes, color=colour, lw=1.6, label=label)
            axes.fill_between(line["frames"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
        axes.set_ylim(-0.04, 1.04)
        _finish(axes, title=title)
    figure.axes[0].set_ylabel("score")
    return figure


def solved_figure(panels: Mapping[str, tuple[Mapping[str, Sequence[int | None]], int]]) -> Figure:
    """Share of seeds that have solved their task, over frames; a panel has its lines by label, and its last frame."""
    figure = Figure(figsize=(max(4.6, 3.6 * len(panels)), 3.6), layout="constrained")
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, (lines, until)) in zip(columns, panels.items(), strict=True):
        for colour, (label, solved) in zip(COLOURS, lines.items(), strict=False):
            frames, values = shares(solved, until)
            axes.step(frames, values, where="post", color=colour, lw=1.6, label=f"{label} ({len(solved)})")
        axes.set_ylim(-0.04, 1.04)
        _finish(axes, title=title)
    columns[0].set_ylabel("share of seeds that have solved it")
    return figure


def policies_figure() -> Figure:
    """PPO, GRPO and DPO."""
    panels = {}
    for task, title, until in (
        ("drive", "hillside: 95 % of laps finish", MOST_FRAMES),
        ("cartpole", "CartPole-v1: a mean of 475", 100_000),
    ):
        lines = {label: _solved(file.format(task), "solved_frames") for label, file in POLICIES.items()}
        panels[title] = (lines, until)
    return solved_figure(panels)


def memory_figure() -> Figure:
    """A network with memory and one without, where velocities are hidden."""
    runs = _results("memory")["runs"]
    lines = {
        label: solved_at(runs[name], "frames_to_target") for name, label in (("GRU", "GRU"), ("none", "no memory"))
    }
    return solved_figure({"CartPole-v1 without velocities: a mean of 475": (lines, 100_000)})


def _solved(name: str, key: str) -> list[int | None]:
    return solved_at(_results(name)["runs"], key)


def _results(name: str) -> dict[str, Any]:
    found = read_results(name)
    if found is None:
        raise SystemExit(f"{RESULTS / name}.json: no such file; take it from the last commit")
    return found


def _finish(axes: Axes, *, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("thousand frames")
    axes.xaxis.set_major_formatter(lambda frames, _: f"{frames / 1_000:g}")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes)


def main() -> None:
    """Draw and write all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    results, suite = Results(RESULTS / "suite"), Suite()
    figures = {name: family_figure(name, results, suite) for name in FAMILY}
    figures |= {"policies": policies_figure(), "r2d2": memory_figure()}
    for name, figure in figures.items():
        figure.savefig(PICTURES / f"{name}.png", dpi=110)
        print("wrote", PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
