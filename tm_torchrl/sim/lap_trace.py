"""A lap with the simulator's state before each of its steps, from any of which it can be driven on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.sim.lap_states import CAPACITY
from tm_torchrl.sim.search import RECORDED_LIMITS
from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.medals import shipped_lap
from tm_torchrl.world.input_scripts import read_script
from tm_torchrl.world.tracker import EndCause, Tracker

STEP_S = 0.05
SHIPPED_LAPS = ("author", "record")


@dataclass(frozen=True)
class LapTrace:
    """A finished lap of K steps.

    Args:
        time_s: Race time at the finish.
        actions: ``[K]``, or ``[K, 5]`` with one per tick.
        states: The simulator's state before each step ``[K, S]``.
        zones: The zone of each state, int32 ``[K]``.
        progress_m: The furthest metre of the track up to each state ``[K]``.
    """

    time_s: float
    actions: np.ndarray
    states: Tensor
    zones: Tensor
    progress_m: np.ndarray

    def times_at(self, places_m: np.ndarray) -> np.ndarray:
        """Race times in seconds at some places, the last of which is the finish.

        Args:
            places_m: Metres along the track, rising.
        """
        times_s = np.append(STEP_S * np.arange(len(self.states)), self.time_s)
        return np.interp(places_m, np.append(self.progress_m, places_m[-1]), times_s)


def trace_lap(track: Track, actions: np.ndarray, start: Tensor | None = None) -> LapTrace | None:
    """Drive a lap's actions; ``None`` if they do not finish.

    Args:
        track: The track.
        actions: ``[K]``, or ``[K, 5]`` with one per tick.
        start: The simulator's state at the start ``[S]``; at rest on the start line by default.
    """
    world = Simulator(track, num_cars=1)
    tracker = Tracker(world, limits=RECORDED_LIMITS)
    zone = world.reset()
    if start is not None:
        world.restore(start.cpu().unsqueeze(0).index_fill(1, torch.tensor(STATE.start("track")), 0.0))
    tracker.reset(zone, torch.ones(1, dtype=torch.bool))
    states, zones, progress = [], [], []
    for action in torch.from_numpy(actions.astype(np.int64)).unsqueeze(1):
        states.append(world.save()[0])
        zones.append(int(tracker["zone"]))
        progress.append(float(tracker["progress_m"]))
        world.step(action)
        tracker.update(action)
        if tracker["end_cause"] == EndCause.FINISHED:
            return LapTrace(
                time_s=float(tracker["race_time_ms"]) / 1000.0,
                actions=actions[: len(states)],
                states=torch.stack(states),
                zones=torch.tensor(zones, dtype=torch.int32),
                progress_m=np.maximum.accumulate(progress),
            )
    return None


def start_lap(track: Track, name: str) -> LapTrace:
    """The lap on which episodes begin; raises ``ValueError`` for one that the track lacks or that does not finish.

    Args:
        track: The track.
        name: ``"author"``, ``"record"`` or a script of inputs.
    """
    if name in SHIPPED_LAPS:
        actions = shipped_start_lap(track, name)
    else:
        try:
            actions = read_script(name)
        except (OSError, ValueError) as error:
            raise ValueError(f"starts: laps={name!r}: {error}") from None
    lap = trace_lap(track, actions[:CAPACITY])
    if lap is None:
        raise ValueError(
            f"starts: laps={name!r}: its inputs do not finish {track.name!r} from the start line within two minutes"
        )
    return lap


def shipped_start_lap(track: Track, name: str) -> np.ndarray:
    """The actions of a track's author lap or record; raises ``ValueError`` for a track without one.

    Args:
        track: The track.
        name: ``"author"`` or ``"record"``.
    """
    advice = "use laps=own, or set lap and lost_time to 0"
    return shipped_lap(track.name, name, option=f"starts: laps={name!r}", advice=advice)
