"""What people look at: figures, videos, and the folder of a run. Imports matplotlib only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.record.plots import draw_track, driven_line, track_gallery
    from tm_torchrl.record.video import write_video

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
