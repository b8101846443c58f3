"""The section of the suite's page about the search for settings: how much was spent, and what it brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.grids.results import read_table
from benchmarks.pages.tables import table
from benchmarks.tune import COLUMNS, best_of

INTRODUCTION = """\
Random search, as many equally long trials for each algorithm; trial 0 is what `benchmarks/suite.yaml` says. A trial is
judged by the area under the curves of its seeds, which no cell above has. `benchmarks/tuned.yaml` held the best ones
before the first cell was run. Batches, networks, and how often a transition is used are equal and were not searched
for the quantile family. Other libraries have their authors' settings, or those of ours that they stand beside. GRPO and
DPO have their presets, and so has PPO on CartPole.
"""


def search_section(
    folder: Path, environments: Sequence[str], *, titles: Mapping[str, str], tuning: Mapping[str, Mapping[str, Any]]
) -> str:
    """A table for each search in these environments; empty if there was none."""
    parts = []
    for search, about in tuning.items():
        trials = read_table(folder / f"{search}_trials.csv", COLUMNS)
        if not trials or about.get("environment", search) not in environments:
            continue
        rows = []
        for name, title in titles.items():
            own = [trial for trial in trials if trial["algorithm"] == name]
            best = best_of(own, name)
            if best is None:
                continue
            minutes = sum(trial["cpu_s"] for trial in own) / 60
            first = next((f"{trial['area']:.2f}" for trial in own if trial["trial"] == 0), "-")
            found = f"`{best['settings']}`" if best["settings"] else "as in suite.yaml"
            rows.append((title, str(len(own)), f"{minutes:.0f}", first, f"{best['area']:.2f}", found))
        titles_of_columns = ["algorithm", "trials", "CPU minutes", "area of trial 0", "of the best"]
        seeds = f"{about['seeds']} seed{'s' * (about['seeds'] != 1)}"
        parts += [f"### {search}: {about['trials']} trials of {seeds} (`tune.py {search}`)"]
        parts += ["", *table([*titles_of_columns, "settings of the best"], rows, align="lrrrrl"), ""]
    return "\n".join(["## Settings", "", INTRODUCTION, *parts]) if parts else ""
