"""What all formats share: laps of a folder one by one, and laps from elsewhere, checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import NUM_ACTIONS
from tm_torchrl.world.observation import observation_layout

MOST_PREVIOUS = 100  # actions in an observation
NO_ZONE = -1  # of a lap that did not begin in the simulator


def laps_of(folder: DemonstrationFolder) -> Iterator[DrivenLap]:
    """The laps of a folder.

    Args:
        folder: The folder.
    """
    ends = np.cumsum(folder.lap_frames)
    names = folder.description.frame_arrays
    for number, (end, length) in enumerate(zip(ends.tolist(), folder.lap_frames.tolist(), strict=True)):
        frames = np.arange(end - length, end)
        yield DrivenLap(
            **{name: folder.rows(name, frames) for name in names},
            time_s=float(folder.lap_time_s[number]),
            start=folder.lap_start[number],
            zone=int(folder.lap_zone[number]),
        )


def description_of(
    track: Track | None, *, source: str, num_floats: int, action_block: int = 1, image_size: int | None = None
) -> Description:
    """The description of laps from elsewhere, of which only the floats tell the number of previous actions.

    Args:
        track: The track; ``None`` if nobody has said.
        source: Where they come from, for messages.
        num_floats: F.
        action_block: Actions in a frame.
        image_size: Height and width of the images; ``None`` for none.
    """
    if track is None:
        raise ValueError(f"{source}: does not say on which track its laps were driven; give --track")
    sizes = {observation_layout(n).size: n for n in range(1, MOST_PREVIOUS + 1)}
    if num_floats not in sizes:
        raise ValueError(
            f"{source}: has observations of {num_floats} floats; the layout of this package has "
            f"{observation_layout().size} with 5 previous actions, and 4 for each further one"
        )
    return Description.of(
        track,
        driver=f"imported from {source}",
        state_size=0,  # no simulator has driven them
        action_block=action_block,
        num_previous_actions=sizes[num_floats],
        image_size=image_size,
    )


def checked_lap(values: dict[str, Any], description: Description, *, source: str) -> DrivenLap:
    """A lap from elsewhere; raises ``DamagedFileError`` that names an array that cannot be what it should be.

    Args:
        values: The fields of a ``DrivenLap``.
        description: Says which types and shapes they must have.
        source: Where the lap comes from, for messages.
    """
    num_frames = len(values["action"])
    expected = description.arrays(num_frames=num_frames, num_laps=1)
    for name in description.frame_arrays:
        array, (kind, shape) = np.asarray(values[name]), expected[name]
        is_kind = array.dtype.kind in ("ui" if kind.kind == "u" else "f")
        if not is_kind or array.shape != shape or not num_frames:
            raise DamagedFileError(
                f"{source}: {name} is {array.dtype} {list(array.shape)}; must be {kind} {list(shape)}"
            )
        most = 255 if name == "pixels" else NUM_ACTIONS - 1
        if kind.kind == "u" and (array.min() < 0 or array.max() > most):
            raise DamagedFileError(f"{source}: {name} goes from {array.min()} to {array.max()}; must be 0 to {most}")
        with np.errstate(over="ignore"):
            values[name] = array.astype(kind)
        if kind.kind == "f" and not np.isfinite(values[name]).all():
            raise DamagedFileError(f"{source}: {name} is not finite")
    start = np.asarray(values.get("start", np.zeros(0)), np.float32)
    if start.shape != (description.state_size,) or not np.isfinite(start).all():
        raise DamagedFileError(f"{source}: its start has shape {list(start.shape)}; must be [{description.state_size}]")
    time_s, zone = values.get("time_s", np.nan), values.get("zone", NO_ZONE)
    return DrivenLap(**{**values, "start": start, "time_s": float(time_s), "zone": int(zone)})
