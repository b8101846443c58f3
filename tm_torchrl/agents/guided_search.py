"""Search for the fastest lap with a trained policy: it drives the cars, and its values say which of them go on.

The passes are those of ``LapSearch``, but half of the cars repeat what the best lap did where they are, and the policy
drives the others, all of them until there is a lap: each action is drawn from its probabilities. Half of its cars try a
random action for up to 200 ms between two selections.
Of the cars that are left when those that drive alike have been sorted out, not the furthest go on but those with the
highest scores: the metres that a car has driven, and what the policy's value says that its place, speed and direction
are worth, in metres. Values are compared with that of the best lap's car at the same place of the track, since a policy
that is bad at the next corner undervalues all that come near it. 1,024 cars are enough; ``LapSearch`` has 8,192.
Shapes: B cars, F floats, A actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from tm_torchrl.agents.agent import Agent
from tm_torchrl.envs.rewards import Progress, default_reward, weight_at
from tm_torchrl.evaluation import drive_laps, evaluation_env
from tm_torchrl.modules import QuantileActor
from tm_torchrl.modules.carried import carried_keys
from tm_torchrl.modules.policy_value import PolicyActor
from tm_torchrl.modules.quantiles.fractions import FractionProposal
from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.sim.search import RECORDED_LIMITS, Lap, LapSearch, replay_lap
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.tracks import Track
from tm_torchrl.world.sensors import Sensors
from tm_torchrl.world.tracker import Tracker

TEMPERATURE = 0.03  # of the softmax over a quantile network's values; Munchausen's (Vieillard et al. 2020, section 4)
POLICY = -1  # in a plan: the policy decides when the time has come
TRIED_STEPS = 4  # of 50 ms, the longest time of a random action
NUM_FRACTIONS = 1  # of an implicit quantile network: the median; the mean of 8 takes four times as long


class Guidance:
    """What a search asks a trained agent: how probable each action is, and how good the place of a car is.

    Args:
        agent: A quantile network or a policy that drives in the simulator and sees floats.
        temperature: Divides the values of a quantile network; the softmax of the result are the probabilities.
    """

    def __init__(self, agent: Agent, *, temperature: float = TEMPERATURE) -> None:
        if not temperature > 0.0:
            raise ValueError(f"temperature={temperature}: must be positive")
        self.agent = agent
        self.task = _supported(agent)
        self.temperature = temperature
        self.actor = agent.actor.eval()
        if isinstance(self.actor, QuantileActor):
            module = self.actor.quantile_module
            if module.takes_fractions and not isinstance(module.network.source, FractionProposal):
                spec, distortion = self.actor.spec, self.actor.distortion
                self.actor = QuantileActor(module, spec=spec, num_fractions=NUM_FRACTIONS, distortion=distortion)
        terms = default_reward() if self.task.reward is None else self.task.reward.terms()
        frames = int(agent.facts.get("frames", 0))
        self.reward_per_m = sum(weight_at(term.per_m, frames) for term in terms if isinstance(term, Progress))
        if not self.reward_per_m > 0.0:
            raise ValueError("policy: its reward pays no metres, so its values cannot be compared with them")

    @torch.no_grad()
    def __call__(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the actions ``[B, A]`` and values ``[B]`` for observations ``[B, F]``."""
        if isinstance(self.actor, PolicyActor):
            network: Any = self.actor.network
            logits, value = network(observation)
            return logits, value.squeeze(-1)
        acted = self.actor(TensorDict({"observation": observation}, batch_size=[len(observation)]))
        values = acted["action_value"]
        return values / self.temperature, values.amax(-1)

    def lap(self, track: Track) -> Lap | None:
        """The policy's own lap, greedy and from a standing start; ``None`` if it does not finish."""
        task = self.task
        num_previous_actions, limits = task.num_previous_actions, task.evaluation_limits
        env = evaluation_env(
            track, num_cars=1, starts=Starts(), num_previous_actions=num_previous_actions, limits=limits
        )
        laps = drive_laps(env, self.agent.actor, num_laps=1)
        return replay_lap(track, laps.actions.astype("int8")) if laps.finish_rate else None


class ValueAlong:
    """What a policy thinks of a lap's car at each place of the track.

    Args:
        track: The track that the lap was driven on.
        guidance: The policy.
        lap: The lap.
    """

    def __init__(self, track: Track, guidance: Guidance, lap: Lap) -> None:
        world = Simulator(track, num_cars=1)
        tracker = Tracker(world, num_previous_actions=guidance.task.num_previous_actions, limits=RECORDED_LIMITS)
        tracker.reset(world.reset(), torch.ones(1, dtype=torch.bool))
        sensors = Sensors(world, tracker)
        seen, progress = [], []
        for action in torch.from_numpy(lap.actions.astype(np.int64)).view(-1, 1):
            seen.append(sensors.write().clone())
            progress.append(tracker["progress_m"].item())
            world.step(action)
            tracker.update(action)
        self._progress = torch.tensor(progress).cummax(0).values
        self._values = guidance(torch.cat(seen))[1]

    def __call__(self, progress_m: Tensor) -> Tensor:
        """The values ``[B]`` at these places, linear between the lap's steps."""
        after = torch.searchsorted(self._progress, progress_m.contiguous()).clamp(1, len(self._progress) - 1)
        low, high = self._progress[after - 1], self._progress[after]
        share = ((progress_m - low) / (high - low).clamp_min(1e-3)).clamp(0.0, 1.0)
        return torch.lerp(self._values[after - 1], self._values[after], share)


class GuidedSearch(LapSearch):
    """Beam passes over one track with cars that a trained policy drives.

    Args:
        track: The track to search on; it may be another than the policy's.
        guidance: The policy.
        num_cars: How many cars are simulated at once.
        copies: How many copies of each surviving car go on.
        tried: Share of the cars that try a random action for a moment between two selections.
        seed: Seeds the random choices.
    """

    holds = (5, 20, 8, 15)

    def __init__(
        self,
        track: Track,
        guidance: Guidance,
        *,
        num_cars: int = 1024,
        copies: int = 10,
        tried: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= tried <= 1.0:
            raise ValueError(f"tried={tried}: must be a share, between 0 and 1")
        num_previous_actions = guidance.task.num_previous_actions
        super().__init__(track, num_cars=num_cars, copies=copies, seed=seed, num_previous_actions=num_previous_actions)
        self.guidance = guidance
        self.tried = tried
        self._sensors = Sensors(self.world, self.tracker)
        self._baseline: ValueAlong | None = None

    def run_pass(self, best: Lap | None, *, hold: int = 8, guided: float = 0.5) -> Lap | None:
        """Run one beam from the start line to the finish; returns a lap that is faster than ``best``, or None."""
        self._baseline = None if best is None else ValueAlong(self.track, self.guidance, best)
        return super().run_pass(best, hold=hold, guided=guided)

    def _draw_plans(self, last_action: Tensor, hold: int) -> Tensor:
        """The policy's choice, but a random action for a few steps in some cars, ``[B, hold]``."""
        num, steps = len(last_action), torch.arange(hold)
        begin = torch.randint(hold, (num, 1), generator=self._generator)
        length = torch.randint(1, TRIED_STEPS + 1, (num, 1), generator=self._generator)
        tries = torch.rand(num, 1, generator=self._generator) < self.tried
        return torch.where(tries & (steps >= begin) & (steps < begin + length), self._draw_actions(num), POLICY)

    def _choose(self, planned: Tensor) -> Tensor:
        """The actions of the plan; where it says ``POLICY``, one drawn from the policy's probabilities."""
        asked = planned == POLICY
        if not asked.any():
            return planned
        logits, _ = self.guidance(self._sensors.write(asked)[asked])
        # The first of exponential waiting times with rates p is an action with probability p (the Gumbel trick).
        waiting = torch.empty_like(logits).exponential_(generator=self._generator)
        return planned.masked_scatter(asked, (logits - waiting.log()).argmax(-1))

    def _limited(self, cars: Tensor) -> Tensor:
        """As many of the cars as there is room for: those with the highest scores."""
        room = self.num_cars // self.copies
        return cars if len(cars) <= room else cars[torch.argsort(self._score(cars), descending=True)[:room]]

    def _score(self, cars: Tensor) -> Tensor:
        """The metres that cars have driven, and what their places are worth in metres."""
        mask = torch.zeros(self.num_cars, dtype=torch.bool).index_fill(0, cars, value=True)
        _, value = self.guidance(self._sensors.write(mask)[cars])
        progress = self.tracker["progress_m"][cars]
        if self._baseline is not None:
            value = value - self._baseline(progress)
        return progress + value / self.guidance.reward_per_m


def _supported(agent: Agent) -> TrackManiaTask:
    """The agent's task; raises ``ValueError`` for an agent whose choices the search cannot use."""
    task, actor = agent.task, agent.actor
    if not isinstance(task, TrackManiaTask):
        raise ValueError(f"policy: is a run of {agent.task.label}; must be one of env=trackmania")
    if task.pixels:
        raise ValueError("policy: sees images, and the cars of the search have no camera; use a run of floats alone")
    if task.transforms:
        raise ValueError("policy: its environment has transforms, which the search lacks; use a run without them")
    if task.action_block != 1:
        raise ValueError(
            f"policy: decides blocks of {task.action_block} actions, and the search holds each for 50 ms; use a run "
            "of env.action_block=1"
        )
    if carried_keys(actor):
        raise ValueError("policy: its network has memory, which the search does not carry; use a run without a core")
    if not isinstance(actor, (QuantileActor, PolicyActor)):
        raise ValueError(f"policy: {type(actor).__name__} has no probabilities; must be a quantile or policy network")
    return task
