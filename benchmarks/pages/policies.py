"""The table of policies beside M-IQN at equal CPU seconds, for docs/policy_gradients.md, from the suite's runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.grids.results import Results
from benchmarks.grids.scores import runs_of
from benchmarks.pages.tables import table
from benchmarks.results_file import RESULTS

SHOWN = {
    "m_iqn": "M-IQN",
    "ppo_untuned": "PPO, its preset",
    "ppo": "PPO, searched settings",
    "grpo": "GRPO",
    "dpo": "DPO",
}
CPU_S = (15, 30, 45, 60, 90, 120, 150)


def at(runs: Mapping[int, Sequence[Mapping[str, Any]]], cpu_s: float) -> tuple[float, float]:
    """Medians over seeds of finish rate and median lap in the last evaluation before some CPU seconds were spent.

    A seed without a finished lap counts as infinitely slow.

    >>> rows = [
    ...     {"cpu_s": 9.0, "finish_rate": 0.0, "median_lap_s": None},
    ...     {"cpu_s": 19.0, "finish_rate": 0.5, "median_lap_s": 40.0},
    ... ]
    >>> at({0: rows}, 5.0), at({0: rows}, 10.0), at({0: rows}, 20.0)
    ((0.0, inf), (0.0, inf), (0.5, 40.0))
    """
    none: dict[str, Any] = {"finish_rate": 0.0, "median_lap_s": None}
    last: list[Mapping[str, Any]] = [
        next((row for row in reversed(rows) if row["cpu_s"] <= cpu_s), none) for rows in runs.values()
    ]
    laps = [math.inf if row["median_lap_s"] is None else row["median_lap_s"] for row in last]
    return statistics.median(row["finish_rate"] for row in last), statistics.median(laps)


def policies_table() -> str:
    """Finish rates and laps on the default track after equal CPU seconds."""
    curves = Results(RESULTS / "suite").curves("hillside")
    found = {name: runs_of(curves, name) for name in SHOWN}
    rows = []
    for cpu_s in CPU_S:
        cells = []
        for runs in found.values():
            rate, lap = at(runs, cpu_s)
            cells.append(f"{rate:.0%}, {lap:.2f} s" if math.isfinite(lap) else f"{rate:.0%}")
        rows.append((str(cpu_s), *cells))
    names = (f"{SHOWN[name]} ({len(runs)} seeds)" for name, runs in found.items())
    return "\n".join(table(["CPU seconds", *names], rows))
