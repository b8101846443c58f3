"""Make a file of pairs for algorithm=dpo_recorded: of two recorded laps that begin equally, the better is preferred.

tm-torchrl record hillside --driver RUN --sampled 1 --starts anywhere --steps 60 --disturbed 0 --laps 500 --out first
tm-torchrl record hillside --driver RUN --sampled 2 --starts anywhere --steps 60 --disturbed 0 --laps 500 --out second
tm-torchrl pairs first second --out pairs.jsonl
tm-torchrl train algorithm=dpo_recorded data=pairs.jsonl "warm_start={source: RUN}"

Folders that were recorded with the same --seed and --starts have laps that begin equally, whoever drove them. A lap
that finishes is better than one that does not, a quicker one than a slower one, and of two that do not finish the one
that got further along the track. Ties are left out.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.data.demonstrations.driven_again import progress_of
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.pair_file import Segment, write_pairs
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.recording import LIMITS
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.tracks.track_hash import track_hash

CARS = 256  # that drive again at once


def main() -> None:
    """Pair the laps of two folders and say what came of it."""
    parser = parser_for("pairs", __doc__)
    parser.add_argument("first", type=Path, help="a folder of recorded laps")
    parser.add_argument("second", type=Path, help="another one, with laps that begin equally")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file, JSON lines")
    parser.add_argument("--track", help="the .npz file of the track, where it is not a built-in one")
    args = parser.parse_args()
    try:
        folders = [DemonstrationFolder(path) for path in (args.first, args.second)]
        track = load_track(args.track or folders[0].description.track)
        both = list(zip((args.first, args.second), folders, strict=True))
        for path, folder in both:
            check(path, folder, track)
        scores = [scores_of(folder, track) for folder in folders]
        there = args.out.parent.resolve()  # ".." leads out of where a link points to
        names = [os.path.relpath(path.resolve(), there) for path in (args.first, args.second)]
        matches = matched(*folders)
        pairs = better_first(matches, folders, scores, names=names)
        if not matches:
            raise ValueError(
                f"{args.second}: none of its laps begins as one of {args.first} does; record both with the same --seed "
                "and --starts"
            )
        if not pairs:
            raise ValueError(
                f"{args.second}: its {len(matches)} laps that begin as one of {args.first} does are ties; record one "
                "of the folders with another driver, or with another number for --sampled"
            )
        write_pairs(args.out, pairs)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    won = sum(preferred.folder == names[0] for preferred, _ in pairs)
    print(
        f"{args.out}: {len(pairs)} pairs of {len(matches)} laps that begin equally; "
        f"{len(matches) - len(pairs)} ties left out; {args.first} is preferred in {won}, {args.second} in "
        f"{len(pairs) - won}"
    )


def check(path: Path, folder: DemonstrationFolder, track: Track) -> None:
    """Raise unless a folder's laps are of the track, and say in which state they begin."""
    laps = folder.description
    if not laps.state_size:
        raise ValueError(f"{path}: its laps have no states of the simulator, so none are known to begin equally")
    if laps.track_hash != track_hash(track):
        raise ValueError(f"{path}: holds laps on {laps.track} ({laps.track_hash}); {track.name} is {track_hash(track)}")


def matched(first: DemonstrationFolder, second: DemonstrationFolder) -> list[tuple[int, int]]:
    """Numbers of laps of two folders that begin in the same state; each lap comes once.

    Args:
        first: A folder.
        second: Another folder.
    """
    waiting: defaultdict[bytes, list[int]] = defaultdict(list)
    for lap in reversed(range(second.num_laps)):
        waiting[start_of(second, lap)].append(lap)
    found = []
    for lap in range(first.num_laps):
        others = waiting[start_of(first, lap)]
        if others:
            found.append((lap, others.pop()))
    return found


def start_of(folder: DemonstrationFolder, lap: int) -> bytes:
    """The state in which a lap begins, as bytes."""
    return folder.lap_start[lap].tobytes() + folder.lap_zone[lap].tobytes()


def scores_of(folder: DemonstrationFolder, track: Track) -> list[tuple[bool, float]]:
    """What laps are ordered by: whether they finished, then earlier, else how far they got.

    Args:
        folder: The laps.
        track: Their track.
    """
    progress = np.zeros(folder.num_laps)
    unfinished = np.flatnonzero(np.isnan(folder.lap_time_s))
    laps = folder.description
    for laps_now in np.array_split(unfinished, -(-len(unfinished) // CARS)) if len(unfinished) else []:
        env = TrackManiaEnv(
            len(laps_now),
            track=track,
            action_block=laps.action_block,
            num_previous_actions=laps.num_previous_actions,
            limits=LIMITS,
        )
        with contextlib.closing(env):
            progress[laps_now] = progress_of(env, folder, laps_now.tolist())
    finished = ~np.isnan(folder.lap_time_s)
    return list(zip(finished.tolist(), np.where(finished, -folder.lap_time_s, progress).tolist(), strict=True))


def better_first(
    matches: Sequence[tuple[int, int]],
    folders: Sequence[DemonstrationFolder],
    scores: Sequence[Sequence[tuple[bool, float]]],
    *,
    names: Sequence[str],
) -> list[tuple[Segment, Segment]]:
    """Pairs of whole laps, the better one first; ties are left out.

    Args:
        matches: Numbers of laps of both folders.
        folders: The folders.
        scores: Of the laps of both folders.
        names: The folders' names in the file.
    """
    pairs = []
    for laps in matches:
        sides = [
            (score[lap], Segment(Path(name).as_posix(), lap, 0, int(folder.lap_frames[lap])))
            for score, name, folder, lap in zip(scores, names, folders, laps, strict=True)
        ]
        if sides[0][0] != sides[1][0]:
            sides.sort(key=lambda side: side[0], reverse=True)
            pairs.append((sides[0][1], sides[1][1]))
    return pairs
