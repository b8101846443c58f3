"""What people look at: videos and figures."""

from tm_torchrl.record.plots import draw_track, driven_line, track_gallery
from tm_torchrl.record.video import write_video

__all__ = ["draw_track", "driven_line", "track_gallery", "write_video"]
