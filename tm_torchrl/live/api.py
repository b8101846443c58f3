"""What the page can ask for, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any

import numpy as np

from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.evaluation.sectors import author_rows
from tm_torchrl.live.lap_data import ghost_rows, kept_inputs, kept_rows, kept_values, lap_data
from tm_torchrl.live.race import Race
from tm_torchrl.live.runs import Run, Runs
from tm_torchrl.live.server import Answer, Request, RequestError, Route
from tm_torchrl.live.track_data import track_data, track_named
from tm_torchrl.live.values import lap_values
from tm_torchrl.record.ghosts import Ghost, ghost_of
from tm_torchrl.record.requests import REQUESTS, ask
from tm_torchrl.record.run_folder import best_laps, load_time
from tm_torchrl.tracks import BUILTIN_TRACKS, Track
from tm_torchrl.tracks.medals import author_actions

DRIVES = Path("drives/keyboard")  # laps that are driven in the page
MOST_RACES = 4


class Api:
    """Answers the page.

    Args:
        runs: The runs that it shows.
        drives: Folder of the laps that are driven in the page.
    """

    def __init__(self, runs: Runs, *, drives: Path) -> None:
        self.runs, self.drives = runs, drives
        self._races: dict[str, Race] = {}
        self._reading = Lock()

    def routes(self) -> dict[str, Route]:
        """Paths below ``api/`` and what answers them."""
        plain: dict[str, Callable[[Request], Any]] = {"runs": self.all_runs, "track": self.track, "lap": self.lap}
        plain |= {"values": self.values, "run": self.run}
        changes: dict[str, Callable[[Request], Any]] = {"ask": self.ask, "keys": self.keys}
        found: dict[str, Route] = {name: self._one_by_one(_explained(answer)) for name, answer in plain.items()}
        found |= {name: _only_posted(_explained(answer)) for name, answer in changes.items()}
        return found | {"race": self.race}

    def _one_by_one(self, answer: Route) -> Route:
        """Several tabs, each with its thread, would otherwise read a file's new lines twice."""

        def answered(request: Request) -> Answer | Iterable[bytes]:
            with self._reading:
                return answer(request)

        return answered

    def all_runs(self, request: Request) -> Any:
        """The list of runs, and the tracks that can be driven without one."""
        return {"runs": self.runs.summaries(), "tracks": list(BUILTIN_TRACKS)}

    def run(self, request: Request) -> Answer:
        """One run: curves, evaluations, laps."""
        run = self._run(request)
        state = f'"{run.state()}"'
        return Answer(None if state == request.known else run.page(), state)

    def track(self, request: Request) -> Any:
        """One track, and the time of the own lap that is kept on it."""
        track = self._track(request)
        own = best_laps(self.drives).get(track.name)
        return {**track_data(track), "own_lap_s": None if own is None else load_time(own)}

    def lap(self, request: Request) -> Any:
        """One lap: ``author``, ``own``, a run's ``best``, or that of an evaluation, ``ghost``."""
        track, kind = self._track(request), str(request.words.get("kind"))
        found = lap_data(track, self._rows(request, track, kind))
        return {**found, "values": kept_values(self._run(request).best()[track.name])} if kind == "best" else found

    def values(self, request: Request) -> Any:
        """Values of all actions along one of the laps of a run, or along the author's."""
        track, run = self._track(request), self._run(request)
        kind = str(request.words.get("kind"))
        if kind == "author":
            actions, start = author_actions(track.name), None
        elif kind == "best" and track.name in run.best():
            actions, start = kept_inputs(run.best()[track.name])
        else:
            ghost = self._ghost(request, track)
            actions, start = ghost.actions, ghost.start
        if actions is None:
            raise RequestError(HTTPStatus.NOT_FOUND, f"{track.name} has no such lap")
        return lap_values(run.folder, track, actions=actions, start=start)

    def ask(self, request: Request) -> Any:
        """Ask the training of a run to stop, to save or to evaluate."""
        what = str(request.words.get("what"))
        if what not in REQUESTS:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"what={what}: must be one of {', '.join(REQUESTS)}")
        run = self._run(request)
        if not run.is_going_on:
            raise RequestError(HTTPStatus.CONFLICT, f"{run.name}: this training has ended")
        ask(run.folder, what)
        return {}

    def race(self, request: Request) -> Iterable[bytes]:
        """Drive a track: states of the car, as they come."""
        if len(self._races) >= MOST_RACES:
            raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, f"{MOST_RACES} races are driven already: end one of them")
        race, name = Race(self._track(request), drives=self.drives), token_hex(8)
        self._races[name] = race
        return self._driven(race, name)

    def _driven(self, race: Race, name: str) -> Iterator[bytes]:
        try:
            yield from race.events(name)
        finally:
            del self._races[name]

    def keys(self, request: Request) -> Any:
        """Take the keys that are held in a race."""
        words = request.words
        race, held, turn = self._races.get(str(words.get("race"))), words.get("held"), words.get("turn")
        if race is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "this race is over")
        if not isinstance(held, int) or not isinstance(turn, int) or not 0 <= held < 16:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"held={held}, turn={turn}: must be bits of keys and a number")
        race.hold(held, turn=turn, restart=words.get("restart") is True)
        return {}

    def _rows(self, request: Request, track: Track, kind: str) -> np.ndarray:
        if kind == "author":
            rows = author_rows(track.name)
            if rows is None:
                raise RequestError(HTTPStatus.NOT_FOUND, f"{track.name} has no author lap")
            return rows
        if kind in ("best", "own"):
            laps = best_laps(self.drives) if kind == "own" else self._run(request).best()
            if track.name not in laps:
                raise RequestError(HTTPStatus.NOT_FOUND, f"no lap is kept on {track.name}")
            return kept_rows(laps[track.name])
        return ghost_rows(track, self._ghost(request, track))

    def _ghost(self, request: Request, track: Track) -> Ghost:
        frames, run = request.words.get("frames"), self._run(request)
        run.ghosts.refresh()
        found = [row for row in run.ghosts.rows if row.get("track") == track.name and str(row.get("frames")) == frames]
        if not found:
            raise RequestError(HTTPStatus.NOT_FOUND, f"no lap was kept after {frames} frames")
        return ghost_of(found[-1])

    def _run(self, request: Request) -> Run:
        try:
            return self.runs[str(request.words.get("run"))]
        except KeyError:
            raise RequestError(HTTPStatus.NOT_FOUND, f"run {request.words.get('run')}: no such run") from None

    def _track(self, request: Request) -> Track:
        """A built-in track, or one that the run names itself."""
        name = str(request.words.get("track"))
        if "run" in request.words:
            run = self._run(request)
            run.refresh()
            known = run.track_names()
        else:
            known = {track: track for track in BUILTIN_TRACKS}
        if name not in known:
            raise RequestError(HTTPStatus.NOT_FOUND, f"track {name}: must be one of {', '.join(known)}")
        return track_named(known[name])


def _only_posted(answer: Route) -> Route:
    """What changes something is asked for by POST, which other pages cannot send."""

    def posted(request: Request) -> Answer | Iterable[bytes]:
        if not request.is_change:
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "this is asked for by POST")
        return answer(request)

    return posted


def _explained(answer: Callable[[Request], Any]) -> Route:
    """An answer whose errors about files of a run become messages of the page."""

    def explained(request: Request) -> Answer:
        try:
            found = answer(request)
            return found if isinstance(found, Answer) else Answer(found)
        except RequestError:
            raise
        except (ValueError, OSError, CheckpointError) as error:  # of files of a run
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except Exception as error:  # the page says so, and the rest of it goes on
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}") from error

    return explained
