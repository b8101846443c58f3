"""The track: arrays that define it, and what is derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tm_torchrl.tracks.clearance import require_clearance
from tm_torchrl.tracks.files.track_files import load_arrays, save_arrays
from tm_torchrl.tracks.raster import Raster, rasterise
from tm_torchrl.tracks.validate import validated
from tm_torchrl.tracks.zones import Zones, gate_table, race_length, zones_of


@dataclass(frozen=True, eq=False)
class Track:
    """A road through a height field, described along its centreline.

    Metres, y up, right-handed; a car that looks along (sin psi, 0, cos psi) has (cos psi, 0, -sin psi) on its left.
    Inputs are checked, rounded (centreline, widths: 1/1024 m; bank: 1/65536) and made read-only, so that everything
    derived from them has the same bits on every platform.

    Args:
        name: The track's name.
        centreline: Points ``[P, 3]``, 1 m apart on the map (x, z). A circuit's last point is 1 m before its first.
        half_width: Metres from the centreline to the road's edge, ``[P]`` or one number.
        bank: Rise of the road per metre to the left, ``[P]`` or one number.
        surface: :class:`Surface` of the road, ``[P]`` or one id. Beside the road there is grass.
        wall_offset: Metres from the road's edge to the wall, at least 1.
        is_circuit: Whether the last point joins the first.
        num_laps: Laps of a race; 1 on an open course.
        start: Centreline index at which the car starts.
        finish: Centreline index of the finish line. By default a circuit's start, or the last point of a course.
        checkpoints: Centreline indices in passing order, strictly between start and finish.

    >>> line = np.stack([np.zeros(100), np.zeros(100), np.arange(100.0)], axis=1)
    >>> track = Track("ruler", line, start=10, finish=90)
    >>> track.length
    80.0
    """

    name: str
    centreline: np.ndarray
    half_width: np.ndarray = field(default_factory=lambda: np.array(9.0))
    bank: np.ndarray = field(default_factory=lambda: np.array(0.0))
    surface: np.ndarray = field(default_factory=lambda: np.array(16))
    wall_offset: float = 5.0
    is_circuit: bool = False
    num_laps: int = 1
    start: int = 0
    finish: int = -1
    checkpoints: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        for key, value in validated(self).items():
            object.__setattr__(self, key, value)

    @property
    def num_points(self) -> int:
        """Number of points of the centreline, which is the length of the road on the map in metres."""
        return len(self.centreline)

    @cached_property
    def length(self) -> float:
        """Metres from start to finish along the line that cars follow, over all laps."""
        return race_length(self)

    @cached_property
    def raster(self) -> Raster:
        """The track as a 1 m grid.

        Raises:
            ValueError: The track touches itself, which a grid cannot hold. Zones and gates still work.
        """
        require_clearance(self)
        return rasterise(self)

    @cached_property
    def zones(self) -> Zones:
        """Virtual checkpoints 0.5 m apart over all laps.

        Raises:
            ValueError: The line turns back on itself.
        """
        return zones_of(self)

    @cached_property
    def gates(self) -> np.ndarray:
        """Gates of one lap, the finish last, float64 ``[G, 8]``: centre, unit tangent, half width to the wall, 0."""
        return gate_table(self)

    def save(self, path: str | Path) -> Path:
        """Write a ``.npz`` file, of which a reader never sees half; returns its path."""
        return save_arrays(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Track:
        """Read a file written by :meth:`save`.

        Raises:
            ValueError: The file is damaged or does not hold a track; nothing in it is ever executed.
            FileNotFoundError: There is no such file.
        """
        arguments = load_arrays(path)
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"path {str(path)!r} does not hold a track: {error}") from error
