"""Judging agents: laps, episodes, statistics, diagnostics. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.evaluation.diagnostics import (
        Diagnostics,
        action_gap,
        action_swaps,
        crossing_rate,
        dormant_share,
        effective_rank,
        norms_by_layer,
        policy_churn,
        quantile_spread,
    )
    from tm_torchrl.evaluation.episodes import Episodes, play_episodes
    from tm_torchrl.evaluation.laps import EVALUATION_STARTS, Laps, drive_laps, evaluation_env
    from tm_torchrl.evaluation.statistics import bootstrap_interval, interquartile_mean

_HOMES = {
    "diagnostics": (
        "Diagnostics",
        "action_gap",
        "action_swaps",
        "crossing_rate",
        "dormant_share",
        "effective_rank",
        "norms_by_layer",
        "policy_churn",
        "quantile_spread",
    ),
    "episodes": ("Episodes", "play_episodes"),
    "laps": ("EVALUATION_STARTS", "Laps", "drive_laps", "evaluation_env"),
    "statistics": ("bootstrap_interval", "interquartile_mean"),
}
_FILE_OF = {name: file for file, names in _HOMES.items() for name in names}

__all__ = [
    "EVALUATION_STARTS",
    "Diagnostics",
    "Episodes",
    "Laps",
    "action_gap",
    "action_swaps",
    "bootstrap_interval",
    "crossing_rate",
    "dormant_share",
    "drive_laps",
    "effective_rank",
    "evaluation_env",
    "interquartile_mean",
    "norms_by_layer",
    "play_episodes",
    "policy_churn",
    "quantile_spread",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
