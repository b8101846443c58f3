"""A game as a World of one car, so that environments, trackers and sensors use it like the simulator."""

from __future__ import annotations

import random
import struct

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.game.client import Client, PassedCheckpoint, Snapshot
from tm_torchrl.game.errors import GameError
from tm_torchrl.game.past_states import PastStates
from tm_torchrl.game.state_layout import check_state, row_from_state
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.zones import NUM_AFTER, NUM_BEFORE
from tm_torchrl.world.actions import ACTIONS, TICKS_PER_ACTION
from tm_torchrl.world.car_row import CAR_ROW

_COUNT = CAR_ROW.start("checkpoint_count")
_TIME = CAR_ROW.start("last_checkpoint_time_ms")
_FINISHED = CAR_ROW.start("is_finished")
_LATERAL = CAR_ROW.start("has_lateral_contact")
_CHECKPOINT = struct.Struct("<3i")
MAX_START_DISTANCE_M = 50.0  # from the start of the track's line; farther away, the game has another map open


class GameWorld:
    """One car in the game, driven through a client.

    The state at race time 0 is stored once, and later episodes rewind to it, which is quicker than the countdown and
    bit-identical. A finish does not end a step early: the car drives on until the 50 ms are over, as in the simulator,
    and the row holds the time at the finish line.

    Args:
        client: Client of the game. It connects when it is first needed, so a worker process makes its own connection.
        track: The map's reference line, checkpoints and finish.
        image_size: Edge of the camera image in pixels; ``None`` for no camera.
        past_starts: Share of episodes that start from a state of an earlier episode. The states are drawn evenly over
            the distance driven so far, without the last seconds of each episode, which led to its end.
        seed: Seeds these draws.
    """

    num_cars = 1

    def __init__(
        self,
        client: Client,
        track: Track,
        *,
        image_size: int | None = None,
        past_starts: float = 0.0,
        seed: int = 0,
    ) -> None:
        if image_size is not None and not client.has_frames:
            raise ValueError(
                f"image_size={image_size}: {type(client).__name__} has no pictures; use TMInterface2Client, or "
                "image_size=None"
            )
        if image_size is not None and not 8 <= image_size <= 1024:
            raise ValueError(f"image_size={image_size}: must be 8 to 1024 pixels")
        if not 0.0 <= past_starts <= 1.0:
            raise ValueError(f"past_starts={past_starts}: must be between 0 and 1")
        self.client = client
        self.past_starts = past_starts
        self._random = random.Random(seed)
        self._past = PastStates() if past_starts else None
        self.tracks = (track,)
        self.image_size = image_size
        self.device = torch.device("cpu")
        self.track_index = torch.zeros(1, dtype=torch.int32)
        size = image_size or 0
        self._frames = torch.zeros(1, 1, size, size, dtype=torch.uint8)
        self._rows = torch.zeros(1, CAR_ROW.size)
        self._row = self._rows.numpy()[0]
        self._start_zone = torch.zeros(1, dtype=torch.int32)
        self._start: bytes | None = None
        self._state = b""
        self._passed: PassedCheckpoint | None = None

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin a new episode, unless the car is masked out; returns the car's zone at its start, ``[1]``."""
        if mask is not None and not bool(mask[0]):
            return self._start_zone
        self._connect()
        if self._start is None:
            self._start = self._checked_start(self.client.restart())
        start = self._start
        if self._past is not None:
            self._past.end_episode()
            if len(self._past) and self._random.random() < self.past_starts:
                start = self._past.draw(self._random)
        self._go_to(start, None)
        self._start_zone[0] = self._zone_near(self._row[CAR_ROW["position"]])
        return self._start_zone

    def step(self, actions: Tensor) -> None:
        """Play 50 ms with one action ``[1]``, or with one action per tick, ``[1, 5]``."""
        slots = actions.view(-1).tolist()
        if len(slots) not in (1, TICKS_PER_ACTION):
            raise ValueError(f"actions has {len(slots)} slots: must have 1 or {TICKS_PER_ACTION}")
        has_lateral_contact = 0.0
        for slot in slots:
            self._take(self.client.drive(ACTIONS[slot], num_ticks=TICKS_PER_ACTION // len(slots)))
            has_lateral_contact = max(has_lateral_contact, float(self._row[_LATERAL]))
        self._row[_LATERAL] = has_lateral_contact  # a contact at any tick of the step counts
        if self._past is not None and self.past_starts:
            self._past.add(self._state, zone=self._zone_near(self._row[CAR_ROW["position"]]))

    def rows(self) -> Tensor:
        """The car row ``[1, CAR_ROW.size]``; the next step overwrites it."""
        return self._rows

    def frames(self) -> Tensor:
        """The camera image, uint8 ``[1, 1, H, W]``; the next call overwrites it."""
        if self.image_size is None:
            raise RuntimeError("this world has no camera; construct it with image_size=64")
        picture = self.client.frame(width=self.image_size, height=self.image_size)
        self._frames[0, 0] = torch.from_numpy(picture)
        return self._frames

    def set_seed(self, seed: int | None) -> None:
        """Seed the draws of past starts; the game itself has no randomness."""
        self._random.seed(seed)

    @property
    def has_begun(self) -> bool:
        """Whether there is a state to save."""
        return bool(self._state)

    def save(self) -> Tensor:
        """The game's state and the last checkpoint passed, uint8 ``[1, n]``."""
        passed = self._passed
        numbers = (0, 0, 0) if passed is None else (passed.count, passed.total, passed.time_ms)
        return torch.from_numpy(np.frombuffer(self._state + _CHECKPOINT.pack(*numbers), np.uint8).copy()).unsqueeze(0)

    def restore(self, blob: Tensor) -> None:
        """Go back to a saved state, from this process or another one with the same map."""
        if blob.dtype != torch.uint8 or blob.ndim != 2 or len(blob) != 1:
            raise ValueError(f"blob is {blob.dtype} {list(blob.shape)}: must be uint8 [1, n], as save() returns")
        content = blob[0].numpy().tobytes()
        state, (count, total, time_ms) = content[: -_CHECKPOINT.size], _CHECKPOINT.unpack(content[-_CHECKPOINT.size :])
        check_state(state)
        self._connect()
        self._go_to(state, PassedCheckpoint(count, total, time_ms) if total else None)

    def close(self) -> None:
        """Disconnect; the game runs on by itself."""
        self.client.close()

    def _connect(self) -> None:
        if not self.client.is_connected:
            self.client.connect()

    def _checked_start(self, snapshot: Snapshot) -> bytes:
        """The state at the start, if it is near the track's start."""
        self._passed = None
        self._take(snapshot)
        distance_m = float(np.linalg.norm(self._row[CAR_ROW["position"]] - self.tracks[0].zones.centers[NUM_BEFORE]))
        if not distance_m <= MAX_START_DISTANCE_M:
            self._state = b""
            raise GameError(
                f"the car starts {distance_m:.0f} m from the start of track {self.tracks[0].name!r}: the game has "
                "another map open. Open the track's map, set game.client.map_path, or set env.track to the open map"
            )
        return snapshot.state

    def _go_to(self, state: bytes, passed: PassedCheckpoint | None) -> None:
        self.client.rewind(state)
        self._passed = passed
        self._take(Snapshot(state))

    def _take(self, snapshot: Snapshot) -> None:
        """Make a snapshot the present state."""
        self._state = snapshot.state
        if snapshot.passed:
            self._passed = snapshot.passed[-1]
        row_from_state(snapshot.state, out=self._row)
        # A finish that was kept from ending the race is missing in the state.
        if self._passed is not None and self._passed.count >= self._row[_COUNT]:
            self._row[_COUNT] = self._passed.count
            self._row[_TIME] = self._passed.time_ms
            self._row[_FINISHED] = float(self._passed.count == self._passed.total)

    def _zone_near(self, position: np.ndarray) -> int:
        """The zone where a search for the car begins: the nearest that it may be in."""
        zones = self.tracks[0].zones
        gates, count = zones.checkpoint_zones, int(self._row[_COUNT])
        last = int(gates[count]) if count < len(gates) else len(zones.centers) - 1 - NUM_AFTER
        apart = zones.centers[NUM_BEFORE : last + 1] - position
        return NUM_BEFORE + int(np.argmin((apart * apart).sum(axis=1)))
