"""Drives a track in two environments, and compares them step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.car_row import CAR_ROW


def author(track: str) -> list[int]:
    actions = author_actions(track)
    assert actions is not None
    return [int(action) for action in actions]


def drive(env: TrackManiaEnv, actions: Sequence[Any]) -> Iterator[tuple[TensorDictBase, torch.Tensor]]:
    """Yield each step's result with the car row; after the end of an episode a new one begins."""
    now = env.reset()
    yield now, env.world.rows().clone()
    for action in actions:
        now["action"] = torch.tensor([action])
        now = env.step(now)["next"]
        yield now, env.world.rows().clone()
        if bool(now["done"]):
            now = env.reset()
            yield now, env.world.rows().clone()


def require_equal_drives(first: TrackManiaEnv, second: TrackManiaEnv, actions: Sequence[Any]) -> list[TensorDictBase]:
    steps = []
    for i, ((ours, our_row), (theirs, their_row)) in enumerate(
        zip(drive(first, actions), drive(second, actions), strict=True)
    ):
        different = [
            field.name
            for field in CAR_ROW.fields
            if our_row[0, CAR_ROW[field.name]].tolist() != their_row[0, CAR_ROW[field.name]].tolist()
        ]
        assert different == [], f"step {i}: rows differ"
        ours, theirs = ours.flatten_keys("."), theirs.flatten_keys(".")
        assert set(ours.keys()) == set(theirs.keys())
        for key in ours.keys():  # noqa: SIM118  (a TensorDict iterates over its batch)
            assert torch.equal(ours[key], theirs[key]), f"step {i}: {key} differs"
        steps.append(ours)
    return steps
