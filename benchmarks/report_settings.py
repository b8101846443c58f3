"""What the suite's page says of the search for settings: how much was spent, what it brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite_results import read_table
from benchmarks.tune import COLUMNS, best_of

INTRODUCTION = """\
Random search, as many equally long trials for each algorithm; trial 0 is what `benchmarks/suite.yaml` says. A trial is
judged by the area under the curves of its seeds, which no cell above has. `benchmarks/tuned.yaml` held the best ones
before the first cell was run. Batches, networks, and how often a transition is used are equal and were not searched.
Other libraries have their authors' settings, or those of ours that they stand beside.
"""


def settings_section(
    folder: Path, environments: Sequence[str], *, titles: Mapping[str, str], tuning: Mapping[str, Mapping[str, Any]]
) -> str:
    """A table for each environment that was searched for; nothing where none was.

    Args:
        folder: of the tables that ``tune.py`` writes.
        environments: names.
        titles: of algorithms.
        tuning: of ``suite.yaml``.
    """
    parts = []
    for environment in environments:
        trials = read_table(folder / f"{environment}_trials.csv", COLUMNS)
        if not trials or environment not in tuning:
            continue
        about = tuning[environment]
        lines = [
            f"### {environment}: {about['trials']} trials of {about['seeds']} seeds (`tune.py {environment}`)",
            "",
            "| algorithm | trials | CPU minutes | area of trial 0 | of the best | settings of the best |",
            "|---|--:|--:|--:|--:|---|",
        ]
        for name in titles:
            own = [trial for trial in trials if trial["algorithm"] == name]
            best = best_of(own, name)
            if best is None:
                continue
            minutes = sum(trial["cpu_s"] for trial in own) / 60
            first = next((f"{trial['area']:.2f}" for trial in own if trial["trial"] == 0), "-")
            found = f"`{best['settings']}`" if best["settings"] else "as in suite.yaml"
            lines.append(f"| {titles[name]} | {len(own)} | {minutes:.0f} | {first} | {best['area']:.2f} | {found} |")
        parts += [*lines, ""]
    return "\n".join(["## Settings", "", INTRODUCTION, *parts]) if parts else ""
