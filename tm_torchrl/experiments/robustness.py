"""Robustness of a trained agent: how it drives with random actions, and with noise on what it sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tm_torchrl.agents.agent import Agent, load_agent
from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.evaluation.disturbed import Disturbed

FILE = "robustness.json"
FILE_OF_OLDER_RUNS = "hardships.json"
NUM_LAPS = 32
EPSILON = 0.05
NOISE = 0.2  # of the deviation by which each float is normalised
SEED = 1_000
KEPT = ("finish_rate", "median_lap_s", "action_swaps", "return_mean")


def measure_robustness(run: str | Path) -> None:
    """Write the robustness of a run's latest network into its folder, unless it is there already."""
    if read_robustness(run):
        return
    agent = load_agent(run, which="latest")
    torch.set_num_threads(int(agent.settings["num_threads"]))
    found = drive_disturbed(agent)
    with replacing(Path(run) / FILE) as partial:
        partial.write_text(json.dumps(found) + "\n", encoding="utf-8")


def read_robustness(run: str | Path) -> dict[str, Any]:
    """Results of ``greedy``, ``epsilon`` and ``noise`` from a run folder; empty if they were not measured."""
    for name in (FILE, FILE_OF_OLDER_RUNS):
        path = Path(run) / name
        if path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def drive_disturbed(agent: Agent) -> dict[str, Any]:
    """Laps (or episodes) of an agent as it is, with random actions, and with noise on its floats."""
    arguments = agent.task.network_arguments()
    conditions: dict[str, Mapping[str, Any]] = {"greedy": {}, "epsilon": {"epsilon": EPSILON}}
    if arguments["normalize"] is not None:
        scale: Tensor = arguments["normalize"].scale
        conditions["noise"] = {"noise": NOISE * scale}
    found = {}
    with torch.random.fork_rng(devices=[]):
        for name, condition in conditions.items():
            policy = Disturbed(agent.actor, num_actions=arguments["num_actions"], seed=SEED, **condition)
            row = agent.task.evaluate(policy, num=NUM_LAPS, seed=SEED)[0]
            found[name] = {key: row[key] for key in KEPT if key in row}
    return found
