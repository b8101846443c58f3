"""A game as a World of one car, so that environments, trackers and sensors drive it like the simulator."""

from __future__ import annotations

import random
import struct

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.game.client import Client, Moment, Passed
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
_PASSED = struct.Struct("<3i")
FAR_M = 50.0  # from the start of the line; whoever is farther away drives another map


class GameWorld:
    """One car in the game, through a client.

    The race begins where the game puts the car; the state at race time 0 is caught once, and later episodes rewind to
    it, which is quicker than the countdown and the same to the last bit. A finish ends no step early: the car drives on
    until the 50 ms are over, as in the simulator, and the row tells the time at the line.

    Args:
        client: of the game; connected when it is first needed, so that a worker process can make its own connection.
        track: the reference line, checkpoints and finish of the map.
        image_size: edge of the camera image in pixels; ``None`` for no camera.
        past_starts: share of the episodes that begin in a state of an earlier one, drawn evenly from the way driven so
            far, but not from its last seconds, which led to its end.
        seed: of these draws.
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
                f"image_size={image_size}: {type(client).__name__} has no pictures; TMInterface2Client has, or drive "
                "by floats alone"
            )
        if image_size is not None and not 8 <= image_size <= 1024:
            raise ValueError(f"image_size={image_size}: choose 8 to 1024 pixels")
        if not 0.0 <= past_starts <= 1.0:
            raise ValueError(f"past_starts={past_starts}: a share from 0 to 1 wanted")
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
        self._passed: Passed | None = None

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin a new episode, unless the car is masked out; returns its zone at the start, ``[1]``."""
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
        """Play 50 ms: one action ``[1]`` held, or ``[1, 5]`` with one action a tick."""
        slots = actions.view(-1).tolist()
        if len(slots) not in (1, TICKS_PER_ACTION):
            raise ValueError(f"actions have {len(slots)} slots; 50 ms hold 1 or {TICKS_PER_ACTION}")
        has_lateral_contact = 0.0
        for slot in slots:
            self._arrive(self.client.drive(ACTIONS[slot], num_ticks=TICKS_PER_ACTION // len(slots)))
            has_lateral_contact = max(has_lateral_contact, float(self._row[_LATERAL]))
        self._row[_LATERAL] = has_lateral_contact  # any touch within the step counts
        if self._past is not None and self.past_starts:
            self._past.add(self._state, zone=self._zone_near(self._row[CAR_ROW["position"]]))

    def rows(self) -> Tensor:
        """The car row ``[1, CAR_ROW.size]``; the next step writes over it."""
        return self._rows

    def frames(self) -> Tensor:
        """The camera image, uint8 ``[1, 1, H, W]``; the next call writes over it."""
        if self.image_size is None:
            raise RuntimeError("this world has no camera; construct it with image_size=64")
        picture = self.client.frame(width=self.image_size, height=self.image_size)
        self._frames[0, 0] = torch.from_numpy(picture)
        return self._frames

    def set_seed(self, seed: int) -> None:
        """Key the draws of past starts; the game itself has no randomness."""
        self._random.seed(seed)

    @property
    def has_begun(self) -> bool:
        """Whether there is a state to be saved."""
        return bool(self._state)

    def save(self) -> Tensor:
        """The game's state and the last checkpoint passed, uint8 ``[1, n]``."""
        passed = self._passed
        told = (0, 0, 0) if passed is None else (passed.count, passed.total, passed.time_ms)
        return torch.from_numpy(np.frombuffer(self._state + _PASSED.pack(*told), np.uint8).copy()).unsqueeze(0)

    def restore(self, blob: Tensor) -> None:
        """Go back to a saved state, of this process or another that has the same map."""
        if blob.dtype != torch.uint8 or blob.ndim != 2 or len(blob) != 1:
            raise ValueError(f"blob is {blob.dtype} {list(blob.shape)}; a game saves uint8 [1, n]")
        content = blob[0].numpy().tobytes()
        state, (count, total, time_ms) = content[: -_PASSED.size], _PASSED.unpack(content[-_PASSED.size :])
        check_state(state)
        self._connect()
        self._go_to(state, Passed(count, total, time_ms) if total else None)

    def close(self) -> None:
        """Disconnect; the game goes on by itself."""
        self.client.close()

    def _connect(self) -> None:
        if not self.client.is_connected:
            self.client.connect()

    def _checked_start(self, moment: Moment) -> bytes:
        """The state at the start, if it is near the track's own."""
        self._passed = None
        self._arrive(moment)
        apart_m = float(np.linalg.norm(self._row[CAR_ROW["position"]] - self.tracks[0].zones.centers[NUM_BEFORE]))
        if not apart_m <= FAR_M:
            self._state = b""
            raise GameError(
                f"the car starts {apart_m:.0f} m from where track {self.tracks[0].name!r} does: the game has another "
                "map open. Open that map, name it as game.client.map_path, or give its own line as env.track"
            )
        return moment.state

    def _go_to(self, state: bytes, passed: Passed | None) -> None:
        self.client.rewind(state)
        self._passed = passed
        self._arrive(Moment(state))

    def _arrive(self, moment: Moment) -> None:
        """Take a moment's state as the present one."""
        self._state = moment.state
        if moment.passed:
            self._passed = moment.passed[-1]
        row_from_state(moment.state, out=self._row)
        # The state forgets a finish that was prevented from ending the race.
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
