"""Laps: greedy races from perturbed starts, and their results.

Shapes: N laps, B cars, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import ExplorationType, TransformedEnv, set_exploration_type

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.diagnostics import action_swaps
from tm_torchrl.evaluation.sectors import lost_to_author, sector_times
from tm_torchrl.modules.carried import carried_keys, carried_values
from tm_torchrl.sim import Starts
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.tracker import EndCause

EVALUATION_STARTS = Starts(jitter_m=0.05, jitter_speed=1.0)  # 5 cm, 3.6 km/h

Policy: TypeAlias = "TensorDictModuleBase | Callable[[Tensor], Tensor]"


@dataclass
class Laps:
    """Results of N laps.

    Args:
        track: Track of the laps.
        times_s: Race times ``[N]``, NaN for laps that did not finish.
        end_causes: How each lap ended (``EndCause``).
        progress_m: Distance that each lap covered.
        returns: Sums of rewards.
        checkpoint_times_s: Times at the gates ``[N, gates]``, NaN for gates that were not reached.
        action_swaps: Share of consecutive actions of each lap that differ.
        rows: Car rows ``[T + 1, row]`` of the best lap, or of the furthest if none finished.
        actions: Actions of that lap, ``[T]`` or ``[T, S]``.
        observations: Observations before these actions, ``[T, F]``.
        start: Saved state of the world at the start of that lap, from which its actions can be replayed.
    """

    track: Track
    times_s: np.ndarray
    end_causes: np.ndarray
    progress_m: np.ndarray
    returns: np.ndarray
    checkpoint_times_s: np.ndarray
    action_swaps: np.ndarray
    rows: np.ndarray = field(repr=False)
    actions: np.ndarray = field(repr=False)
    observations: np.ndarray = field(repr=False)
    start: np.ndarray = field(repr=False)

    @property
    def is_finished(self) -> np.ndarray:
        """Which laps finished."""
        return ~np.isnan(self.times_s)

    @property
    def finish_rate(self) -> float:
        """Share of laps that finished."""
        return float(self.is_finished.mean())

    @property
    def best_lap_s(self) -> float | None:
        """Fastest time of the finished laps."""
        return float(np.nanmin(self.times_s)) if self.is_finished.any() else None

    @property
    def median_lap_s(self) -> float | None:
        """Median time of the finished laps."""
        return float(np.nanmedian(self.times_s)) if self.is_finished.any() else None

    @property
    def medal(self) -> str | None:
        """Medal of the best lap; ``None`` without one, or on a track without medals."""
        return self._medal_of(self.best_lap_s)

    @property
    def medal_of_median(self) -> str | None:
        """Medal of the median time of the finished laps."""
        return self._medal_of(self.median_lap_s)

    def _medal_of(self, time_s: float | None) -> str | None:
        medals = medals_of(self.track.name)
        return None if medals is None or time_s is None else medals.won_by(time_s)

    @property
    def splits_s(self) -> list[float]:
        """Times of the best lap between the gates."""
        if not self.is_finished.any():
            return []
        times = self.checkpoint_times_s[int(np.nanargmin(self.times_s))]
        return sector_times(times[~np.isnan(times)].tolist())

    @property
    def lost_to_author_s(self) -> list[float] | None:
        """Seconds that the best lap loses on the author's in each sector; ``None`` without a lap or an author."""
        return lost_to_author(self.track.name, self.splits_s)

    def summary(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {
            "num_laps": len(self.times_s),
            "finish_rate": self.finish_rate,
            "best_lap_s": self.best_lap_s,
            "median_lap_s": self.median_lap_s,
            "medal": self.medal,
            "medal_of_median": self.medal_of_median,
            "return_mean": float(self.returns.mean()),
            "action_swaps": float(self.action_swaps.mean()),
            "splits_s": self.splits_s,
            "lost_to_author_s": self.lost_to_author_s,
            "lap_times_s": [None if np.isnan(time) else float(time) for time in self.times_s],
            "progress_m": [float(metres) for metres in self.progress_m],
            "end_causes": [EndCause(int(cause)).name.lower() for cause in self.end_causes],
        }


def evaluation_env(track: str | Path | Track, *, num_cars: int, seed: int = 0, **options: Any) -> TrackManiaEnv:
    """An environment whose starts are shifted by up to 5 cm along and across the road, at up to 3.6 km/h.

    Args:
        track: Track of the laps.
        num_cars: Number of laps that are driven at once.
        seed: Seeds the perturbations.
        options: Further arguments of ``TrackManiaEnv``.
    """
    return TrackManiaEnv(num_cars, track=track, seed=seed, **{"starts": EVALUATION_STARTS, **options})


@torch.no_grad()
def drive_laps(env: TrackManiaEnv, policy: Policy, *, num_laps: int) -> Laps:
    """Drive one episode with each car, in several rounds if ``num_laps`` exceeds the number of cars.

    Args:
        env: An environment of one track.
        policy: A TensorDict module, which acts greedily, or a function from observations to actions.
        num_laps: N; every lap that was started counts and is driven to its end.

    Examples:
        >>> from tm_torchrl.world import Limits
        >>> env = evaluation_env("oval", num_cars=2, limits=Limits(no_progress_s=0.2))
        >>> laps = drive_laps(env, lambda observation: torch.full((2,), 3), num_laps=2)  # action 3: no gas
        >>> laps.finish_rate, laps.summary()["best_lap_s"], laps.summary()["end_causes"]
        (0.0, None, ['no_progress', 'no_progress'])
    """
    if num_laps < 1:
        raise ValueError(f"num_laps={num_laps}: must be at least 1")
    if len(env.world.tracks) != 1:
        raise ValueError(f"env: has {len(env.world.tracks)} tracks; must have one")
    rounds = [_drive_round(env, policy) for _ in range(-(-num_laps // env.batch_size[0]))]
    columns = [np.concatenate(parts)[:num_laps] for parts in zip(*(found[:5] for found in rounds), strict=True)]
    traces = [trace for found in rounds for trace in found[5]][:num_laps]
    times, progress = columns[0], columns[2]
    best = int(np.nanargmin(times)) if (~np.isnan(times)).any() else int(progress.argmax())
    rows, taken, observations, start = traces[best]
    return Laps(
        track=env.world.tracks[0],
        times_s=times,
        end_causes=columns[1],
        progress_m=progress,
        returns=columns[3],
        checkpoint_times_s=columns[4],
        action_swaps=np.array([action_swaps(torch.from_numpy(actions.reshape(-1))) for _, actions, *_ in traces]),
        rows=rows,
        actions=taken,
        observations=observations,
        start=start,
    )


def _drive_round(env: TrackManiaEnv, policy: Policy) -> tuple[Any, ...]:
    """Times, causes, progress, returns, gate times and traces of one episode of each car."""
    race, world, tracker = env.race, env.world, env.race.tracker
    num = env.batch_size[0]
    steps = _TransformedSteps(env, policy) if isinstance(env, TransformedEnv) else RaceSteps(env, policy)
    steps.reset(None)
    is_driving = torch.ones(num, dtype=torch.bool, device=env.device)
    num_gates = len(world.tracks[0].gates) * world.tracks[0].num_laps
    times = torch.full((num,), torch.nan, dtype=torch.float64)  # whole milliseconds stay whole
    gates = torch.full((num, num_gates), torch.nan, dtype=torch.float64)
    causes, progress, returns = torch.zeros(num), torch.zeros(num), torch.zeros(num)
    rows, actions, seen, starts = [world.rows().cpu().clone()], [], [], world.save().cpu().numpy()
    lengths = torch.zeros(num, dtype=torch.int64)
    while bool(is_driving.any()):
        seen.append(race.observation.cpu())
        action, reward, terminated, truncated = steps.step()
        actions.append(action.cpu().clone())  # a policy may write its next actions over these
        rows.append(world.rows().cpu().clone())
        returns += (reward * is_driving).cpu()
        lengths += is_driving.cpu()
        is_over = terminated | truncated
        ended = (is_over & is_driving).cpu()
        if bool(ended.any()):
            causes[ended] = tracker["end_cause"].cpu()[ended]
            progress[ended] = tracker["progress_m"].cpu()[ended]
            passed = tracker.rows[:, tracker.layout["checkpoint_times_ms"]].cpu()[ended].double() / 1000.0
            gates[ended] = torch.where(passed > 0, passed, torch.nan)[:, :num_gates]
            finished = ended & terminated.cpu()
            times[finished] = tracker["race_time_ms"].cpu()[finished].double() / 1000.0
            is_driving = is_driving & ~is_over
        if bool(is_over.any()):
            steps.reset(is_over)
    all_rows, all_actions, all_seen = (torch.stack(parts, 1).numpy() for parts in (rows, actions, seen))
    traces = [
        (all_rows[i, : n + 1], all_actions[i, :n], all_seen[i, :n], starts[i]) for i, n in enumerate(lengths.tolist())
    ]
    return times.numpy(), causes.numpy().astype(int), progress.numpy(), returns.numpy(), gates.numpy(), traces


class RaceSteps:
    """Steps of a bare environment, without the cost of ``EnvBase.step``."""

    def __init__(self, env: TrackManiaEnv, policy: Policy) -> None:
        self.env, self.policy = env, policy
        self.keys = carried_keys(policy) if isinstance(policy, TensorDictModuleBase) else []
        self.carried: TensorDictBase = TensorDict(batch_size=env.batch_size)

    def reset(self, mask: Tensor | None) -> None:
        """Begin new episodes of the masked cars, all by default."""
        self.env.race.reset(mask)

    def step(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The greedy action, its reward, and whether the episode terminated or was truncated."""
        action = self.act()
        outcome = self.env.race.step(action)
        return action, outcome.reward, outcome.terminated, outcome.truncated

    def act(self) -> Tensor:
        """The greedy action, which is not played yet."""
        env = self.env
        if not isinstance(self.policy, TensorDictModuleBase):
            return self.policy(env.race.observation)
        seen = {"observation": env.race.observation}
        if env.pixels:
            seen["pixels"] = env.world.frames().clone()
        given = TensorDict(seen, batch_size=env.batch_size, device=env.device).update(self.carried)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            acted = self.policy(given)
        self.carried = carried_values(acted, self.keys)
        return acted["action"]


class _TransformedSteps:
    """Steps of an environment behind transforms, through TorchRL's own ``step`` and ``reset``."""

    def __init__(self, env: TransformedEnv, policy: Policy) -> None:
        if not isinstance(policy, TensorDictModuleBase):
            raise ValueError(f"policy={policy!r}: must be a TensorDict module where the environment has transforms")
        self.env, self.policy = env, policy
        self.state: TensorDictBase | None = None
        self.keys = carried_keys(policy)

    def reset(self, mask: Tensor | None) -> None:
        if mask is None or self.state is None:
            self.state = self.env.reset()
        else:
            self.state = self.env.reset(self.state.set("_reset", mask.unsqueeze(-1)))

    def step(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The greedy action, its reward, and whether the episode terminated or was truncated."""
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            acted = self.policy(self.state)
            carried = carried_values(acted, self.keys)
            played = self.env.step(acted)
        self.state = self.env.step_mdp(played).update(carried)
        outcome = [played["next", key].squeeze(-1) for key in ("reward", "terminated", "truncated")]
        return played["action"], outcome[0], outcome[1], outcome[2]
