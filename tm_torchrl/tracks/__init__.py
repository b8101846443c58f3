"""The geometry of tracks, in numpy. Start with :func:`load_track`."""

from tm_torchrl.tracks.building.blocks import BLOCKS, Block, blocks
from tm_torchrl.tracks.building.generate import HELD_OUT_SEEDS, TRAINING_SEEDS, generate_track
from tm_torchrl.tracks.building.pieces import Piece, arc, chicane, jump, lay, straight
from tm_torchrl.tracks.centreline import from_centreline
from tm_torchrl.tracks.clearance import Clearance, self_clearance
from tm_torchrl.tracks.library import BUILTIN_TRACKS, DEFAULT_TRACK, load_track
from tm_torchrl.tracks.racing_line import racing_line
from tm_torchrl.tracks.raster import Raster
from tm_torchrl.tracks.speed import speed_profile
from tm_torchrl.tracks.surfaces import Surface
from tm_torchrl.tracks.track import Track
from tm_torchrl.tracks.zones import ZONE_SPACING_M, Zones

__all__ = [
    "BLOCKS",
    "BUILTIN_TRACKS",
    "DEFAULT_TRACK",
    "HELD_OUT_SEEDS",
    "TRAINING_SEEDS",
    "ZONE_SPACING_M",
    "Block",
    "Clearance",
    "Piece",
    "Raster",
    "Surface",
    "Track",
    "Zones",
    "arc",
    "blocks",
    "chicane",
    "from_centreline",
    "generate_track",
    "jump",
    "lay",
    "load_track",
    "racing_line",
    "self_clearance",
    "speed_profile",
    "straight",
]
