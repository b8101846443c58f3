"""Registers the gymnasium id; importing ``tm_torchrl`` calls it, since gymnasium 1.x does not search for plugins."""

from __future__ import annotations

import importlib.util

ENV_ID = "tm_torchrl/TrackMania-v0"


def register() -> None:
    """Make ``gymnasium.make("tm_torchrl/TrackMania-v0")`` and ``make_vec`` work, where gymnasium is installed."""
    if importlib.util.find_spec("gymnasium") is None:
        return
    import gymnasium

    if ENV_ID in gymnasium.registry:
        return
    gymnasium.register(
        ENV_ID,
        entry_point="tm_torchrl.envs.gym_env:TrackManiaGymEnv",
        vector_entry_point="tm_torchrl.envs.gym_env:TrackManiaVectorEnv",
    )
