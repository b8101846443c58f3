"""A track: the arrays that define it, and what is derived from them."""

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
    Inputs are checked, rounded (centreline, widths: 1/1024 m; bank: 1/65536) and frozen, so that everything derived
    from them is the same bits on every platform.

    Args:
        name: what people call it.
        centreline: ``[P, 3]``, points 1 m apart on the map (x, z). A circuit's last point is 1 m before its first.
        half_width: ``[P]`` or one number, metres from the centreline to the road's edge.
        bank: ``[P]`` or one number, rise of the road per metre to the left.
        surface: ``[P]`` or one id, :class:`Surface` of the road there. Beside the road is grass.
        wall_offset: metres from the road's edge to the wall, at least 1.
        is_circuit: whether the last point joins the first.
        num_laps: laps of a race; 1 on an open course.
        start: centreline index where the car stands.
        finish: centreline index of the finish line. By default a circuit's start, or the last point of a course.
        checkpoints: centreline indices in passing order, strictly between start and finish.

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
        """Points of the centreline, which is metres of road on the map."""
        return len(self.centreline)

    @cached_property
    def length(self) -> float:
        """Metres from start to finish along the line that cars follow, all laps."""
        return race_length(self)

    @cached_property
    def raster(self) -> Raster:
        """The track as a 1 m grid.

        Raises:
            ValueError: the track touches itself; a height field has no bridges. Zones and gates still work.
        """
        require_clearance(self)
        return rasterise(self)

    @cached_property
    def zones(self) -> Zones:
        """Virtual checkpoints 0.5 m apart over all laps.

        Raises:
            ValueError: the line turns back on itself.
        """
        return zones_of(self)

    @cached_property
    def gates(self) -> np.ndarray:
        """float64 ``[G, 8]``: centre xyz, unit tangent xyz, half width to the wall, 0. One lap, the finish last."""
        return gate_table(self)

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` at once (a reader never sees half a file); returns the path written."""
        return save_arrays(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Track:
        """Read a file written by :meth:`save`.

        Raises:
            ValueError: it is damaged, or holds what is no track; nothing in it is ever executed.
            FileNotFoundError: there is no such file.
        """
        arguments = load_arrays(path)
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"path {str(path)!r} holds no track: {error}") from error
