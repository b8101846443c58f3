"""How far a trained agent's driving carries when its hand slips or it sees badly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tm_torchrl.agents.agent import Agent, load_agent
from tm_torchrl.evaluation.disturbed import Disturbed

FILE = "hardships.json"
NUM_LAPS = 32
EPSILON = 0.05
NOISE = 0.2  # of the deviation by which each float is normalised
SEED = 1_000
KEPT = ("finish_rate", "median_lap_s", "action_swaps", "return_mean")


def judge_hardships(run: str | Path) -> None:
    """Write what a run's latest network does under each condition into its folder, unless it stands there already.

    Args:
        run: its folder.
    """
    path = Path(run) / FILE
    if path.exists():
        return
    agent = load_agent(run, which="latest")
    torch.set_num_threads(int(agent.settings["num_threads"]))
    found = drive_under_hardships(agent)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_hardships(run: str | Path) -> dict[str, Any]:
    """What was written: results of ``greedy``, ``epsilon`` and ``noise``; nothing of a run that was not judged.

    Args:
        run: its folder.
    """
    path = Path(run) / FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def drive_under_hardships(agent: Agent, *, num: int | None = None) -> dict[str, Any]:
    """Laps (or episodes) of an agent as it is, with random actions, and with noise on the floats that it sees.

    Args:
        agent: trained.
        num: of laps for each condition; 32 by default.
    """
    arguments = agent.task.network_arguments()
    conditions: dict[str, Mapping[str, Any]] = {"greedy": {}, "epsilon": {"epsilon": EPSILON}}
    if arguments["normalize"] is not None:
        scale: Tensor = arguments["normalize"].scale
        conditions["noise"] = {"noise": NOISE * scale}
    found = {}
    with torch.random.fork_rng(devices=[]):
        for name, condition in conditions.items():
            policy = Disturbed(agent.actor, num_actions=arguments["num_actions"], seed=SEED, **condition)
            row = agent.task.evaluate(policy, num=NUM_LAPS if num is None else num, seed=SEED)[0]
            found[name] = {key: row[key] for key in KEPT if key in row}
    return found
