"""Results of an ablation: measures of runs, one table, one plot."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean, pairs_won
from tm_torchrl.experiments.robustness import EPSILON, NOISE, NUM_LAPS, read_robustness
from tm_torchrl.record.run_folder import read_evaluations, read_metrics
from tm_torchrl.settings.stored import run_settings

Settings = dict[str, Any]
Measures = dict[str, float]

COLUMNS = {  # of the table: measure, title, digits
    "final_lap_s": ("final lap, s", 2),
    "finish_rate": ("finish rate", 3),
    "finish_rate_epsilon": ("with random actions", 3),
    "finish_rate_noise": ("with noise", 3),
    "return_mean": ("mean return", 1),
    "action_gap": ("action gap", 4),
    "action_swaps": ("action swaps", 3),
    "policy_churn": ("policy churn", 3),
}
LOWER_IS_BETTER = ("final_lap_s",)
CLEARLY = 0.75  # share of pairs of runs; 5 seeds against 5 of the same kind reach it by chance in 11 % of cases
NOTE = f"""\
Ahead in: the share of pairs of a run and one of those that it was added to in which it has the faster laps (or the
larger return): 0.5 is no difference, {CLEARLY} or more counts as better, {1 - CLEARLY} or less as worse. Each other
cell: interquartile mean over seeds, and its 95 % bootstrap interval. Of the last network, over {NUM_LAPS} laps where
it drives a track: final lap (median of the finished ones; a run without any counts with the time limit), finish
rate, action swaps (share of neighbouring actions that differ); finish rate with {EPSILON:.0%} random actions, and with
noise on the floats ({NOISE:g} of the deviation that each is normalised by). Of the diagnostics: action gap (the last
one), policy churn (mean over the run)."""


@dataclass
class Entry:
    """An experiment and its results.

    Args:
        name: Name of the experiment, as it was asked for.
        settings: Settings of its runs, without the seed.
        base: Name of the entry that it was added to; empty for the baseline.
        measures: Measures of each finished run, by seed.
        failures: Why runs failed, by seed.
        is_kept: Later experiments build on it.
    """

    name: str
    settings: Settings | None = None
    base: str = ""
    measures: dict[int, Measures] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    is_kept: bool = False


def measure(run: str | Path) -> Measures:
    """The measures of a finished run, of its first track or its task; what the run does not have is left out."""
    evaluations, metrics = read_evaluations(run), read_metrics(run)
    rows = [row for row in evaluations if row.get("track") == evaluations[0].get("track")]
    if not rows:
        raise ValueError(f"{run}: no evaluations in it")
    robustness = read_robustness(run)
    last = {**rows[-1], **robustness.get("greedy", {})}
    found: Measures = {}
    for name, row in robustness.items():
        if name != "greedy" and "finish_rate" in row:
            found[f"finish_rate_{name}"] = row["finish_rate"]
    if "track" in last:
        lap = last["median_lap_s"]
        found["final_lap_s"] = run_settings(run)["env"]["evaluation_limits"]["race_s"] if lap is None else lap
    found |= {key: last[key] for key in ("finish_rate", "return_mean", "action_swaps") if last.get(key) is not None}
    if "track" in last:
        found.pop("return_mean", None)
    gaps, churn = (
        [row[f"diagnostics/{key}"] for row in metrics if f"diagnostics/{key}" in row]
        for key in ("action_gap", "policy_churn")
    )
    if gaps:
        found["action_gap"] = gaps[-1]
    if churn:
        found["policy_churn"] = sum(churn) / len(churn)
    return {key: float(value) for key, value in found.items()}


def better(ours: Mapping[int, Measures], theirs: Mapping[int, Measures]) -> bool:
    """Whether our laps (or returns) are better by more than seeds differ, and no fewer laps finish.

    Args:
        ours: Measures of our runs, by seed.
        theirs: Measures of the runs that they are compared with, by seed.
    """
    share = share_ahead(ours, theirs)
    finished, before = values_of(ours, "finish_rate"), values_of(theirs, "finish_rate")
    fewer = pairs_won(before, finished).mean() if before and finished else 0.0
    return share is not None and share >= CLEARLY and fewer < CLEARLY


def share_ahead(ours: Mapping[int, Measures], theirs: Mapping[int, Measures]) -> float | None:
    """Share of all pairs of runs in which ours has the faster laps (or larger return); ``None`` without pairs."""
    for key in ("final_lap_s", "return_mean"):
        mine, other = values_of(ours, key), values_of(theirs, key)
        if mine and other:
            won = pairs_won(other, mine) if key in LOWER_IS_BETTER else pairs_won(mine, other)
            return float(won.mean())
    return None


def values_of(measures: Mapping[int, Measures], key: str) -> list[float]:
    """One measure of all runs that have it, in the order of seeds."""
    return [found[key] for _, found in sorted(measures.items()) if key in found]


@functools.cache
def estimate(values: tuple[float, ...]) -> tuple[float, float, float]:
    """Interquartile mean, and both ends of its interval."""
    return interquartile_mean(values), *bootstrap_interval(values)


def write_table(out: Path, entries: Sequence[Entry], *, seeds: Sequence[int]) -> None:
    """Write ``table.csv``, ``table.md`` and ``plot.png``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [_row(entry, entries) for entry in entries]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(out / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    (out / "table.md").write_text(markdown(entries, seeds=seeds), encoding="utf-8")
    if any(entry.measures for entry in entries):
        plot(entries).savefig(out / "plot.png", dpi=110)


def _row(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "experiment": entry.name,
        "added_to": entry.base,
        "is_kept": entry.is_kept,
        "num_runs": len(entry.measures),
        "num_failed": len(entry.failures),
        "ahead_in": _share_ahead(entry, entries),
    }
    for key in COLUMNS:
        if values := values_of(entry.measures, key):
            mean, low, high = estimate(tuple(values))
            row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    return row


def markdown(entries: Sequence[Entry], *, seeds: Sequence[int]) -> str:
    """The table, and below it the runs that failed."""
    present = [key for key in COLUMNS if any(values_of(entry.measures, key) for entry in entries)]
    titles = ["experiment", "added to", "runs", "ahead in", *(COLUMNS[key][0] for key in present)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * 3}{'---:|' * (1 + len(present))}"]
    for entry in entries:
        name = f"**{entry.name}** (kept)" if entry.is_kept else entry.name
        share = _share_ahead(entry, entries)
        cells = [name, entry.base or "-", f"{len(entry.measures)} of {len(seeds)}"]
        cells.append("-" if share is None else f"{share:.2f}")
        cells += [_cell(values_of(entry.measures, key), COLUMNS[key][1]) for key in present]
        lines.append(f"| {' | '.join(cells)} |")
    failed = [
        f"- {entry.name}, seed {seed}: {why}" for entry in entries for seed, why in sorted(entry.failures.items())
    ]
    listed = ["", "Failed:", "", *failed] if failed else []
    return "\n".join([*lines, "", NOTE, *listed]) + "\n"


def _share_ahead(entry: Entry, entries: Sequence[Entry]) -> float | None:
    bases = [each for each in entries if each.name == entry.base]
    return share_ahead(entry.measures, bases[0].measures) if bases else None


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    mean, low, high = estimate(tuple(values))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def plot(entries: Sequence[Entry]) -> Figure:
    """Draw interquartile means with intervals, a dot for each seed, and the baseline's mean as a line."""
    present = [key for key in COLUMNS if any(values_of(entry.measures, key) for entry in entries)]
    is_repeated = any(len(entry.measures) > 1 for entry in entries)
    figure = Figure(figsize=(2.6 + 2.2 * len(present), 1.6 + 0.34 * len(entries)), layout="constrained")
    panels = figure.subplots(1, len(present), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, present, strict=True):
        for line, entry in enumerate(entries):
            values = values_of(entry.measures, key)
            if not values:
                continue
            mean, low, high = estimate(tuple(values))
            colour = "#2e8b57" if entry.is_kept else "#2563a8"
            if len(values) > 1:
                axes.plot([low, high], [line, line], color=colour, lw=2.0)
                axes.plot(mean, line, "|", ms=11, mew=2.0, color=colour)
            alpha = 0.4 if len(values) > 1 else 1.0
            axes.plot(values, [line] * len(values), "o", ms=4 if alpha < 1 else 6, color=colour, alpha=alpha, mew=0)
            if line == 0:
                axes.axvline(mean, color="#8a949e", lw=0.8, ls=":")
        digits = COLUMNS[key][1]
        middle, half = np.mean(axes.get_xlim()), 0.5 * np.ptp(axes.get_xlim())
        axes.set_xlim(middle + max(half, 2.0 * 10.0**-digits) * np.array([-1.0, 1.0]))  # equal values are one point
        axes.set_title(COLUMNS[key][0], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(f"{{x:.{digits}f}}")
        axes.grid(axis="x", color="#e1e6eb", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(entries)), [entry.name for entry in entries])
    panels[0].set_ylim(len(entries) - 0.5, -0.5)
    shown = "Dots: seeds. Bars: interquartile means and 95 % intervals" if is_repeated else "One seed: no intervals"
    kept = " Green: kept." if any(entry.is_kept for entry in entries) else ""
    figure.supxlabel(f"{shown}. Dotted line: {entries[0].name}.{kept}", fontsize=8, color="#5c6977")
    return figure
