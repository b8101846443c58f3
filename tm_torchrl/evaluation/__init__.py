"""Evaluation of agents: laps, episodes, statistics, diagnostics. Imports torch only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.evaluation.diagnostics import (
        Diagnostics,
        action_gap,
        action_swaps,
        crossing_rate,
        effective_rank,
        norms_by_layer,
        policy_churn,
        quantile_spread,
    )
    from tm_torchrl.evaluation.episodes import Episodes, play_episodes
    from tm_torchrl.evaluation.laps import EVALUATION_STARTS, Laps, drive_laps, evaluation_env
    from tm_torchrl.evaluation.statistics import (
        bootstrap_interval,
        interquartile_mean,
        pairs_won,
        probability_of_improvement,
    )

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
