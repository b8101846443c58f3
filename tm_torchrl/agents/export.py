"""The greedy policy as a separate program: ``torch.export`` or ONNX."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.agents.agent import Agent
from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.lazy import import_extra
from tm_torchrl.modules.carried import carried_keys, carried_values

ActingFunction = Callable[[Sequence[Tensor]], Tensor]


@runtime_checkable
class ActsOnTensors(Protocol):
    """An actor with a function of plain tensors, which is easier to export than a TensorDict module."""

    def greedy(self, *observations: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The greedy actions for observations in the order of ``in_keys``; with memory the next states too."""
        ...


class GreedyPolicy(nn.Module):
    """The greedy policy as a function of plain tensors.

    Args:
        actor: Acts greedily: a TensorDict module that reads ``in_keys`` and writes ``action``.
    """

    def __init__(self, actor: TensorDictModuleBase) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, *observations: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The actions ``[B]`` (``[B, S]``) for observations ``[B, ...]`` in the order of the actor's ``in_keys``.

        The state of a network with memory is the last of them, zeros at the start of an episode, and a second output.
        """
        if isinstance(self.actor, ActsOnTensors):
            return self.actor.greedy(*observations)
        inputs = dict(zip(self.actor.in_keys, observations, strict=True))
        batch = TensorDict(inputs, batch_size=[observations[0].shape[0]])
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            action: Tensor = self.actor(batch)["action"]
        return action


def visited_states(agent: Agent, number: int) -> list[Tensor]:
    """Observations of random drives, ``[number, ...]`` for each key that the network reads, and states after them."""
    env = agent.task.make_env(num_envs=min(64, number), seed=12_345)
    try:
        steps = env.rollout(-(-number // env.batch_size.numel()), break_when_any_done=False).reshape(-1)[:number]
    finally:
        env.close()
    carried = carried_keys(agent.actor)
    if carried:
        with torch.no_grad():
            steps.update(carried_values(agent.actor(steps.select(*agent.task.in_keys)), carried))
    return [steps[key] for key in (*agent.task.in_keys, *carried)]


def export_policy(policy: GreedyPolicy, states: Sequence[Tensor], path: Path) -> ActingFunction:
    """Write a ``.pt2`` file and load it.

    Args:
        policy: The policy.
        states: Example observations, one tensor per key.
        path: The file to write.
    """
    batch = torch.export.Dim("batch", min=1, max=65_536)
    shapes = (tuple({0: batch} for _ in states),)
    program = torch.export.export(policy.eval(), tuple(states), dynamic_shapes=shapes)
    content = io.BytesIO()  # torch's own writer ends the process when a disk is full
    torch.export.save(program, content)
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())
    loaded = torch.export.load(path).module()
    return lambda observations: _action(loaded(*observations))


def export_onnx(policy: GreedyPolicy, states: Sequence[Tensor], path: Path) -> ActingFunction:
    """Write a ``.onnx`` file and load it with onnxruntime.

    Args:
        policy: The policy.
        states: Example observations, one tensor per key.
        path: The file to write.
    """
    _, _, onnxruntime = map(import_extra, ("onnx", "onnxscript", "onnxruntime"))
    batch = torch.export.Dim("batch", min=1, max=65_536)
    program = torch.onnx.export(
        policy.eval(), tuple(states), dynamo=True, dynamic_shapes=(tuple({0: batch} for _ in states),)
    )
    assert program is not None
    with replacing(path) as partial:
        program.save(str(partial))
    session = onnxruntime.InferenceSession(str(path))
    names = [entry.name for entry in session.get_inputs()]

    def act(observations: Sequence[Tensor]) -> Tensor:
        feed = {name: value.numpy() for name, value in zip(names, observations, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return act


def _action(found: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


def disagreements(agent: Agent, act: ActingFunction, states: Sequence[Tensor]) -> int:
    """The number of states in which another program acts differently."""
    keys = (*agent.task.in_keys, *carried_keys(agent.actor))
    seen = dict(zip([str(key) for key in keys], states, strict=True))
    ours, theirs = agent.predict(seen), act(states)
    return int((ours != theirs).reshape(len(ours), -1).any(-1).sum())
