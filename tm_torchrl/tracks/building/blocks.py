"""Courses written as letters, each a block of 32 x 8 x 32 metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tm_torchrl.tracks.building.pieces import Piece, arc, chicane, lay, straight
from tm_torchrl.tracks.surfaces import Surface
from tm_torchrl.tracks.track import Track

BLOCK_M = 32.0
LEVEL_M = 8.0
HALF_WIDTH_M = 9.0
WALL_OFFSET_M = 4.5  # 13.5 m to the wall: inside the block, and inside the 16 m radius of its tightest curve
AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (x, z) of each heading; a left turn takes the next one


@dataclass(frozen=True)
class Block:
    """What a letter stands for.

    Args:
        meaning: Description for messages.
        pieces: The road, from the middle of an edge of the first cell to the middle of an edge of the last.
        cells: Cells of the grid that the block fills, as (ahead, left) of the first.
        leaves: The next block's cell, as (ahead, left) of the first.
        quarter_turns: Quarter turns to the left.
    """

    meaning: str
    pieces: tuple[Piece, ...]
    cells: tuple[tuple[int, int], ...] = ((0, 0),)
    leaves: tuple[int, int] = (1, 0)
    quarter_turns: int = 0


def _wide(side: int) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (1, 0), (0, side), (1, side))


def _pad(surface: Surface) -> tuple[Piece, ...]:
    return straight(12.0), straight(8.0, surface=surface), straight(12.0)


_WEAVE = chicane(radius_m=16.0, turn_deg=30.0, half_width_m=4.5)  # 8 arcs of 8 m ahead each: two blocks

BLOCKS: Mapping[str, Block] = MappingProxyType({
    "S": Block("straight", (straight(BLOCK_M),)),
    "L": Block("curve to the left, radius 16 m", (arc(16.0, 90.0),), leaves=(0, 1), quarter_turns=1),
    "R": Block("curve to the right, radius 16 m", (arc(16.0, -90.0),), leaves=(0, -1), quarter_turns=-1),
    "l": Block("wide curve to the left, radius 48 m, 2 x 2 blocks", (arc(48.0, 90.0),), _wide(1), (1, 2), 1),
    "r": Block("wide curve to the right, radius 48 m, 2 x 2 blocks", (arc(48.0, -90.0),), _wide(-1), (1, -2), -1),
    "U": Block("ramp up, 8 m", (straight(BLOCK_M, rise_m=LEVEL_M),)),
    "D": Block("ramp down, 8 m", (straight(BLOCK_M, rise_m=-LEVEL_M),)),
    "u": Block("gentle ramp up, 4 m", (straight(BLOCK_M, rise_m=LEVEL_M / 2),)),
    "d": Block("gentle ramp down, 4 m", (straight(BLOCK_M, rise_m=-LEVEL_M / 2),)),
    "J": Block("jump; leave two straight blocks to land on", (straight(8.0), Piece(16.0, kick=0.16), straight(8.0))),
    "T": Block("turbo", _pad(Surface.TURBO)),
    "X": Block("red turbo", _pad(Surface.TURBO2)),
    "E": Block("straight of dirt (earth)", (straight(BLOCK_M, surface=Surface.DIRT),)),
    "N": Block("narrow straight", (Piece(BLOCK_M, half_width_m=5.0),)),
    "C": Block("chicane, two blocks long", _WEAVE, ((0, 0), (1, 0)), (2, 0)),
})  # fmt: skip


def blocks(spec: str, *, name: str | None = None, num_laps: int = 1) -> Track:
    """Build a course from letters; the first block lies at x 0..32 m, z 0..32 m and looks along +z.

    The start line is in the middle of the first block, the finish in the middle of the last. A course that comes back
    into its first block, level and looking along +z, is a circuit. The letters are in :data:`BLOCKS`.

    Args:
        spec: The letters; spaces are skipped.
        name: Name of the track; the letters by default.
        num_laps: Laps of a circuit.

    Raises:
        ValueError: A letter is unknown, or a block lies on an earlier one.

    >>> track = blocks("SSLS")
    >>> track.num_points, track.centreline[-1].tolist()  # 3 * 32 m + 25.13 m; one block to the left
    (122, [64.0, 0.0, 80.0])
    """
    letters = [letter for letter in spec if not letter.isspace()]
    for i, letter in enumerate(letters):
        if letter not in BLOCKS:
            known = ", ".join(f"{key} ({block.meaning})" for key, block in BLOCKS.items())
            raise ValueError(f"spec has the unknown letter {letter!r} at block {i + 1}; known are {known}")
    if len(letters) < 2:
        raise ValueError(f"spec={spec!r}: must have at least 2 blocks (start and finish)")
    is_circuit = _check_cells(letters)
    if num_laps != 1 and not is_circuit:
        raise ValueError(f"num_laps={num_laps}: must be 1, since {spec!r} does not lead back into its first block")
    return lay(
        spec if name is None else name,
        [piece for letter in letters for piece in BLOCKS[letter].pieces],
        half_width_m=HALF_WIDTH_M,
        wall_offset_m=WALL_OFFSET_M,
        num_laps=num_laps if is_circuit else None,
        start_m=BLOCK_M / 2,
        origin=(BLOCK_M / 2, 0.0, 0.0),
    )


def _check_cells(letters: list[str]) -> bool:
    """Raise if two blocks share a cell; return whether the course leads back to its beginning."""
    taken: dict[tuple[int, int], int] = {}
    x, z, heading = 0, 0, 0
    rise = 0.0
    for i, letter in enumerate(letters):
        block = BLOCKS[letter]
        (ax, az), (lx, lz) = AHEAD[heading], AHEAD[(heading + 1) % 4]
        for ahead, left in block.cells:
            cell = (x + ahead * ax + left * lx, z + ahead * az + left * lz)
            if cell in taken:
                other = taken[cell]
                raise ValueError(
                    f"spec runs over itself: block {i + 1} ({letter!r}) lies on block {other + 1} "
                    f"({letters[other]!r}) at grid cell {cell}"
                )
            taken[cell] = i
        ahead, left = block.leaves
        x, z = x + ahead * ax + left * lx, z + ahead * az + left * lz
        heading = (heading + block.quarter_turns) % 4
        rise += sum(piece.rise_m for piece in block.pieces)
    return (x, z, heading, rise) == (0, 0, 0, 0.0)
