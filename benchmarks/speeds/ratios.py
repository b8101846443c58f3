"""Ratios of two speeds measured in one run, which can be compared between machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ALLOWED = 1.2  # times as bad as before

Results = dict[str, dict[str, Any]]


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


def ratios(results: Results) -> dict[str, float]:
    """All ratios of these results, by name; the larger, the better."""
    found: dict[str, float] = {}
    for name, formed in (("env", _of_env), ("loss", _of_loss), ("network", _of_network), ("train", _of_train)):
        if name in results:
            found |= {f"{name}: {title}": ratio for title, ratio in formed(results[name]).items()}
    return found


def worse(now: Results, before: Results, *, allowed: float = ALLOWED) -> dict[str, tuple[float, float]]:
    """Ratios before and now, by name, of those that both have and that have become worse by more than a factor."""
    old, new = ratios(before), ratios(now)
    return {name: (old[name], new[name]) for name in new if name in old and old[name] / new[name] > allowed}


def _of_env(found: dict[str, Any]) -> dict[str, float]:
    speeds = found["steps_per_s"]
    floats, pixels = "TrackManiaEnv.step floats 64", "TrackManiaEnv.step pixels 64"
    pairs = {
        "64 cars, TrackManiaEnv over bare physics and floats": (floats, "physics + 264 floats 64"),
        "64 cars, TrackManiaEnv with pixels over physics, floats and images": (
            pixels,
            "physics + 264 floats + 64x64 image 64",
        ),
        "64 cars, TrackManiaEnv with pixels over CarRacing-v3": (pixels, "CarRacing-v3"),
    }
    return {title: speeds[ours] / speeds[other] for title, (ours, other) in pairs.items() if {ours, other} <= {*speeds}}


def _of_loss(found: dict[str, Any]) -> dict[str, float]:
    formed = {}
    for task, speeds in found["updates_per_cpu_s"].items():
        for learner, speed in speeds.items():
            peer = "sb3-contrib" if learner == "ours, greedy" else "tianshou"
            if learner.startswith("ours") and peer in speeds:
                formed[f"{task}, {learner} over {peer}"] = speed / speeds[peer]
    return formed


def _of_network(found: dict[str, Any]) -> dict[str, float]:
    costs = {
        f"time without {part} over that with it, {precision}": 1 / row["ratio"]
        for part, rows in found["costs"].items()
        for precision, row in rows.items()
    }
    gains = {
        f"{size}, bf16 over fp32": rows["fp32"]["ms"] / rows["bf16"]["ms"]
        for size, rows in found["updates"].items()
        if "fp32" in rows and "bf16" in rows
    }
    return costs | gains


def _of_train(found: dict[str, Any]) -> dict[str, float]:
    rows = found["rows"].items()
    return {f"{precision}, a bare loop's time over ours": 1 / row["ours_time_over_bare"] for precision, row in rows}
