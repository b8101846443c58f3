"""One car's race as the game runs it: countdown, ticks of 10 ms, keys, checkpoints, states as bytes, pictures."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import PureWindowsPath

import numpy as np
import torch

from tm_torchrl.game.state_layout import (
    NOT_PASSED,
    check_state,
    checkpoint_times,
    head_of,
    new_state,
    row_from_state,
    write_row,
)
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.camera.camera import MAX_SIZE, MIN_SIZE, Camera
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.world.actions import ACTIONS, TICK_MS, Inputs
from tm_torchrl.world.car_row import CAR_ROW

COUNTDOWN_MS = 2600
MAX_VALUE = 1e9  # greater than any value in a car row: metres, revolutions per minute, milliseconds
KEYS = {"gas": "up", "brake": "down", "left": "left", "right": "right"}  # the game's names
_COUNT = STATE.start("checkpoint_count")
_TIME = STATE.start("last_checkpoint_time_ms")
_FINISHED = STATE.start("is_finished")
_LATERAL = STATE.start("has_lateral_contact")
_RACE_TIME = STATE.start("race_time_ms")
_MAGIC = b"tm_torchrl state"
_TRACK = STATE.start("track") - CAR_ROW.size
_NUM_HIDDEN = STATE.size - CAR_ROW.size
_HIDDEN = struct.Struct(f"<16s{_NUM_HIDDEN}f")
_NO_KEYS = Inputs(gas=False, brake=False, left=False, right=False)


def action_of(inputs: Inputs) -> int:
    """The simulator's action for these keys; left and right together cancel out."""
    if inputs.left and inputs.right:
        inputs = inputs._replace(left=False, right=False)
    return ACTIONS.index(inputs)


@dataclass(frozen=True)
class _KeyChange:
    time_ms: int
    key: str
    is_pressed: bool

    def __str__(self) -> str:
        return f"{self.time_ms / 1000:.2f} {'press' if self.is_pressed else 'rel'} {KEYS[self.key]}"


class EmulatedRace:
    """The simulator with the game's clock around it.

    Parts of the simulator's state for which the game's state has no place (such as suspension and steering wheel) are
    stored in its spare bytes, so that a rewind is exact; a state without them is refused.

    Args:
        track: Track to race on.
        countdown_ms: Time before the start signal, in which the car stands.
    """

    def __init__(self, track: Track, *, countdown_ms: int = COUNTDOWN_MS) -> None:
        if countdown_ms < 0 or countdown_ms % TICK_MS:
            raise ValueError(f"countdown_ms={countdown_ms}: must be a multiple of {TICK_MS} and at least 0")
        self.track = track
        self.countdown_ms = countdown_ms
        self.num_laps = track.num_laps
        self.checkpoints_per_lap = len(track.gates)
        self.total = self.checkpoints_per_lap * self.num_laps
        self._sim = Simulator(track, num_cars=1)
        self._cameras: dict[int, tuple[Camera, torch.Tensor]] = {}
        self._track_index = torch.zeros(1, dtype=torch.int32)
        self._action = torch.zeros(1, dtype=torch.int64)
        self.restart()

    def on_map(self, path: str) -> EmulatedRace:
        """The race on the map that the game's ``map`` command names; this race if it is on that map.

        Args:
            path: A ``.npz`` file, or a challenge file as the game names it, whose name begins with the track's.

        Raises:
            ValueError, OSError: There is no such track.
        """
        track = load_track(path if path.endswith(".npz") else PureWindowsPath(path).name.split(".")[0])
        return self if track is self.track else EmulatedRace(track, countdown_ms=self.countdown_ms)

    def restart(self) -> None:
        """Put the car on the start line, before the countdown."""
        self._sim.reset()
        self._row = self._sim.save().numpy()[0]
        self._blob = new_state(num_checkpoints=self.checkpoints_per_lap, num_laps=self.num_laps)
        self.time_ms = -self.countdown_ms
        self.changes: list[_KeyChange] = []
        self.inputs = _NO_KEYS
        self._action[0] = action_of(self.inputs)

    @property
    def count(self) -> int:
        """Checkpoints passed, over all laps."""
        return int(self._row[_COUNT])

    @property
    def is_finished(self) -> bool:
        """Whether the last checkpoint is passed."""
        return self.count >= self.total

    def press(self, inputs: Inputs) -> None:
        """Hold these keys from now on."""
        for key, before, after in zip(Inputs._fields, self.inputs, inputs, strict=True):
            if before != after:
                self.changes.append(_KeyChange(self.time_ms, key, after))
        self.inputs = inputs
        self._action[0] = action_of(inputs)

    def begin_step(self) -> None:
        """Begin a new step: forget the wall contacts of the last one."""
        self._row[_LATERAL] = 0.0

    def advance(self, num_ticks: int) -> int:
        """Play ticks, until a checkpoint is passed or the countdown ends at most; returns how many were played."""
        if self.time_ms < 0:
            played = min(num_ticks, -self.time_ms // TICK_MS)
            self.time_ms += played * TICK_MS
            return played
        before = self._row.copy()
        self._load(before)
        played = self._tick(num_ticks, before)
        if num_ticks > 1 and self._row[_COUNT] != before[_COUNT]:  # at an unknown tick: find it tick by tick
            self._load(before)
            self._row, played = before, 0
            while self._row[_COUNT] == before[_COUNT]:
                played += self._tick(1, self._row)
        self.time_ms += played * TICK_MS
        if self._row[_COUNT] != before[_COUNT]:
            checkpoint_times(self._blob)[: self.count] = np.maximum(checkpoint_times(self._blob)[: self.count], 0)
            checkpoint_times(self._blob)[self.count - 1] = self._row[_TIME]
        return played

    def _tick(self, num_ticks: int, before: np.ndarray) -> int:
        self._sim.tick(self._action, num_ticks=num_ticks)
        self._row = self._sim.save().numpy()[0]
        self._row[_LATERAL] = max(self._row[_LATERAL], before[_LATERAL])
        return num_ticks

    def _load(self, row: np.ndarray) -> None:
        self._sim.restore(torch.from_numpy(row).unsqueeze(0))

    def prevent_finish(self) -> None:
        """If the race is finished, mark its last checkpoint as not passed, so that it goes on."""
        if self.is_finished:
            self._count_as(self.total - 1)

    def _count_as(self, count: int) -> None:
        times = checkpoint_times(self._blob)
        times[count:] = NOT_PASSED
        self._row[_COUNT] = count
        self._row[_TIME] = times[count - 1] if count else 0.0
        self._row[_FINISHED] = float(count >= self.total)

    def state(self) -> bytes:
        """The game's state; see ``state_layout``."""
        row, blob = self._row, self._blob
        write_row(blob, row[: CAR_ROW.size])
        head = head_of(blob)
        head["race_time"] = head["time"] = self.time_ms
        x, y, z, w = row[STATE["attitude"]]
        head["quaternion"] = w, x, y, z
        velocity = row[CAR_ROW["velocity"]]
        local = velocity @ row[CAR_ROW["rotation"]].reshape(3, 3)
        head["local_velocity"] = local
        speed = 3.6 * float(np.sqrt(velocity @ velocity))
        head["display_speed"] = int(speed) if speed < MAX_VALUE else 0  # a car that left the world
        head["current_checkpoint"] = head["lap_checkpoint_count"] = self.count % self.checkpoints_per_lap
        head["lap"] = self.count // self.checkpoints_per_lap
        head["is_sliding"] = int(row[CAR_ROW["wheel_is_sliding"]].any())
        head["spare"] = _HIDDEN.pack(_MAGIC, *row[CAR_ROW.size :].tolist())
        return bytes(blob)

    def rewind(self, state: bytes) -> None:
        """Go back to a state of this emulator; checkpoints whose times were removed count as not passed."""
        check_state(state)
        magic, *hidden = _HIDDEN.unpack_from(head_of(state)["spare"].tobytes())
        if magic != _MAGIC:
            raise ValueError("state: lacks the simulator's data: must be a state of an emulator")
        if len(checkpoint_times(state)) != self.total:
            raise ValueError(
                f"state: has {len(checkpoint_times(state))} checkpoints: must have {self.total}, as {self.track.name}"
            )
        time_ms = int(head_of(state)["race_time"])
        if time_ms % TICK_MS or time_ms < -self.countdown_ms:
            raise ValueError(f"state: race time is {time_ms} ms: must be whole ticks of {TICK_MS} ms")
        row = row_from_state(state)
        if not (np.abs(row) <= MAX_VALUE).all() or not np.isfinite(hidden).all():
            raise ValueError("state: contains invalid numbers: must be a state of an emulator")
        if hidden[_TRACK] != 0.0:
            raise ValueError(f"state: track number is {hidden[_TRACK]:g}: must be 0")
        self._blob = bytearray(state)
        self._row[: CAR_ROW.size] = row
        self._row[CAR_ROW.size :] = hidden
        times = checkpoint_times(self._blob)
        self._count_as(int((times != NOT_PASSED).sum()))
        self.time_ms = time_ms
        self._row[_RACE_TIME] = max(0, self.time_ms)
        self.changes = [change for change in self.changes if change.time_ms < self.time_ms]

    def inputs_text(self) -> str:
        """The keys so far, as a TMInterface script."""
        return "".join(f"{change}\n" for change in self.changes)

    def frame(self, *, width: int, height: int) -> bytes:
        """The picture from behind the car: ``height`` rows of ``width`` pixels of blue, green, red and alpha."""
        edge = min(max(max(width, height) + 1 & ~1, MIN_SIZE), MAX_SIZE)
        if edge not in self._cameras:
            camera = Camera((self.track,), image_size=edge)
            self._cameras[edge] = (camera, torch.zeros(1, 1, edge, edge, dtype=torch.uint8))
        camera, out = self._cameras[edge]
        row = torch.from_numpy(self._row[: CAR_ROW.size].copy()).unsqueeze(0)
        grey = camera.render(row, self._track_index, out)[0, 0].numpy()
        if grey.shape != (height, width):
            grey = grey[np.arange(height) * edge // height][:, np.arange(width) * edge // width]
        picture = np.full((height, width, 4), 255, np.uint8)
        picture[:, :, :3] = grey[:, :, None]
        return picture.tobytes()
