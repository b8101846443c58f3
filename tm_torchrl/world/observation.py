"""The float observation: Linesight's vector as named slices, in raw SI values.

184 floats with 5 previous actions, 264 with 25. Means and deviations are fixed constants for a network's first layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tm_torchrl.world.layout import Field, Layout

NUM_ZONES_AHEAD = 40
ZONES_PER_POINT = 20  # of 0.5 m: a point every 10 m
FINISH_ANNOUNCED_M = 700.0

MINI_RACE_STEPS = 140  # 7 s


@dataclass(frozen=True)
class ObservationField(Field):
    """A field with the constants that bring it near zero mean and unit deviation: one each, or one per float."""

    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)


def _zone_constants() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and scale of the points ahead (left, up, forward): straight lines between the ends of Linesight's table."""
    far = np.linspace(0.0, 1.0, NUM_ZONES_AHEAD)
    ahead = 10.0 * np.arange(NUM_ZONES_AHEAD) * (1.0 - 0.495 * far)
    mean = np.stack([0.0 * far, -2.1 + 13.6 * far, ahead], axis=1)
    scale = np.stack([7.7 + 190.3 * far, 7.7 + 190.3 * far, 2.9 + 148.1 * far], axis=1)
    return tuple(np.round(mean, 2).ravel().tolist()), tuple(np.round(scale, 2).ravel().tolist())


def observation_layout(num_previous_actions: int = 5) -> Layout:
    """Names, units and normalisation constants of the float observation.

    >>> observation_layout(5).size, observation_layout(25).size
    (184, 264)
    >>> observation_layout(5)["velocity"]
    slice(56, 59, None)
    """
    if not 1 <= num_previous_actions <= 100:
        raise ValueError(
            f"num_previous_actions={num_previous_actions}: must be 1 to 100 (Linesight uses 5, rulka 5 or 25)"
        )
    zone_mean, zone_scale = _zone_constants()
    n = num_previous_actions

    def field(
        name: str, size: int, unit: str, meaning: str, mean: tuple[float, ...], scale: tuple[float, ...]
    ) -> ObservationField:
        return ObservationField(name, size, unit, meaning, mean, scale)

    half = MINI_RACE_STEPS / 2
    keys = (0.8, 0.2, 0.3, 0.3)
    return Layout(
        field("clock", 1, "actions", "mini-race time; 0 in rollouts, drawn when replay samples", (half,), (half,)),
        field("previous_actions", 4 * n, "0/1", "gas, brake, left, right; oldest first", keys * n, (0.5,)),
        field("wheel_is_sliding", 4, "0/1", "", (0.1,), (0.5,)),
        field("wheel_has_contact", 4, "0/1", "", (0.9,), (0.5,)),
        field("wheel_damper", 4, "m", "damper travel", (0.02,), (0.06,)),
        field("gearbox_state", 1, "id", "1 while a gear changes, 2 before the first start", (0.3,), (1.0,)),
        field("gear", 1, "count", "", (2.5,), (2.0,)),
        field("engine_rpm", 1, "1/min", "", (7000.0,), (3000.0,)),
        field("gearbox_counter", 1, "actions", "how long gearbox_state has not been 0", (0.1,), (10.0,)),
        field("wheel_material", 16, "0/1", "per wheel: asphalt, grass, dirt, turbo; else zeros", (0.5,), (0.5,)),
        field("angular_velocity", 3, "rad/s", "car frame", (0.0,), (0.5, 1.0, 0.5)),
        field("velocity", 3, "m/s", "car frame: left, up, forward", (0.0, 0.0, 55.0), (5.0, 5.0, 20.0)),
        field("up", 3, "1", "the world's up in the car frame", (0.0, 1.0, 0.0), (0.5,)),
        field("zones_ahead", 3 * NUM_ZONES_AHEAD, "m", "points every 10 m, car frame", zone_mean, zone_scale),
        field("margin_to_finish", 1, "m", "metres to the finish, at most 700", (700.0,), (350.0,)),
        field("is_freewheeling", 1, "0/1", "", (0.0,), (1.0,)),
    )


def observation_constants(num_previous_actions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of every float, each float32 ``[F]``: normalise with ``(x - mean) / scale``."""
    means, scales = [], []
    for field in observation_layout(num_previous_actions).fields:
        assert isinstance(field, ObservationField)
        means.append(np.broadcast_to(np.asarray(field.mean, np.float32), field.size))
        scales.append(np.broadcast_to(np.asarray(field.scale, np.float32), field.size))
    return np.concatenate(means), np.concatenate(scales)
