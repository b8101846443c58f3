"""Ratios of two speeds measured in one run, which can be compared between machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOWED = 1.2  # times as bad as before

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two speeds or times."""

    value: float
    more_is_better: bool

    def times_as_bad(self, before: Ratio) -> float:
        """The factor by which the ratio is worse than before; below 1 it is better.

        >>> Ratio(2.0, more_is_better=True).times_as_bad(Ratio(3.0, more_is_better=True))
        1.5
        """
        return before.value / self.value if self.more_is_better else self.value / before.value


def read(folder: Path, *, device: str = "cpu") -> Results:
    """The results of the four benchmarks that exist, by the benchmark's name."""
    found: Results = {}
    for name in ("env", "loss", "network", "train"):
        path = folder / f"{name}_{device}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(
                    f"{path}: is not JSON: {error}; take it from the last commit, or measure again with "
                    f"python benchmarks/speeds/bench_{name}.py"
                ) from None
    return found


def ratios(results: Results) -> dict[str, Ratio]:
    """All ratios of these results, by name."""
    found: dict[str, Ratio] = {}
    for name, formed in (("env", _of_env), ("loss", _of_loss), ("network", _of_network), ("train", _of_train)):
        if name in results:
            found |= {f"{name}: {title}": ratio for title, ratio in formed(results[name]).items()}
    return found


def worse(now: Results, before: Results, *, allowed: float = ALLOWED) -> dict[str, tuple[float, float]]:
    """Ratios that have become worse, by name, with the value before and now."""
    old, new = ratios(before), ratios(now)
    common = [name for name in new if name in old]
    return {name: (old[name].value, new[name].value) for name in common if new[name].times_as_bad(old[name]) > allowed}


def _of_env(found: dict[str, Any]) -> dict[str, Ratio]:
    speeds = found["steps_per_s"]
    pairs = {
        "64 cars, TrackManiaEnv over bare physics and floats": (
            "TrackManiaEnv.step floats 64",
            "physics + 264 floats 64",
        ),
        "64 cars, TrackManiaEnv with pixels over physics, floats and images": (
            "TrackManiaEnv.step pixels 64",
            "physics + 264 floats + 64x64 image 64",
        ),
        "64 cars, TrackManiaEnv with pixels over CarRacing-v3": ("TrackManiaEnv.step pixels 64", "CarRacing-v3"),
    }
    return {
        title: Ratio(speeds[ours] / speeds[other], more_is_better=True)
        for title, (ours, other) in pairs.items()
        if ours in speeds and other in speeds
    }


def _of_loss(found: dict[str, Any]) -> dict[str, Ratio]:
    formed = {}
    for task, speeds in found["updates_per_cpu_s"].items():
        for learner, speed in speeds.items():
            peer = "sb3-contrib" if learner == "ours, greedy" else "tianshou"
            if learner.startswith("ours") and peer in speeds:
                formed[f"{task}, {learner} over {peer}"] = Ratio(speed / speeds[peer], more_is_better=True)
    return formed


def _of_network(found: dict[str, Any]) -> dict[str, Ratio]:
    costs = {
        f"{part}, {precision}": Ratio(row["ratio"], more_is_better=False)
        for part, rows in found["costs"].items()
        for precision, row in rows.items()
    }
    gains = {
        f"{size}, bf16 over fp32": Ratio(rows["fp32"]["ms"] / rows["bf16"]["ms"], more_is_better=True)
        for size, rows in found["updates"].items()
        if "fp32" in rows and "bf16" in rows
    }
    return costs | gains


def _of_train(found: dict[str, Any]) -> dict[str, Ratio]:
    return {
        f"{precision}, time over a bare loop's": Ratio(row["ours_time_over_bare"], more_is_better=False)
        for precision, row in found["rows"].items()
    }
