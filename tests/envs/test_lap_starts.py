"""Starts on fast laps: which lap, where time is lost against it, and what a saved state goes on with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.lap_starts import LapStarts
from tm_torchrl.envs.segment_times import SEGMENT_M, SegmentTimes
from tm_torchrl.sim import Starts
from tm_torchrl.sim.lap_trace import start_lap
from tm_torchrl.sim.state import STATE
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.tracks import generate_track, load_track
from tm_torchrl.tracks.medals import author_actions, medals_of
from tm_torchrl.world.input_scripts import script_of
from tm_torchrl.world.tracker import EndCause

OVAL = "oval"


def make(num: int, **starts: Any) -> tuple[TrackManiaEnv, LapStarts]:
    env = TrackManiaEnv(num, track=OVAL, starts=Starts(**starts), seed=2)
    assert env.race.lap_starts is not None
    return env, env.race.lap_starts


def drive(env: TrackManiaEnv, actions: np.ndarray) -> None:
    """All cars play these actions; those that are done begin anew after the last one."""
    for action in actions.tolist():
        ended = env.race.step(torch.full((env.batch_size[0],), action))
    env.race.reset(ended.terminated | ended.truncated)


def test_the_author_lap_has_its_time_and_the_times_of_its_segments() -> None:
    lap = start_lap(load_track(OVAL), "author")
    bounds = SegmentTimes([1183.0], num_cars=1).bounds[0]
    assert (np.diff(bounds) == [SEGMENT_M] * 22 + [83.0]).all()
    times_s = lap.times_at(bounds)
    assert lap.time_s == medals_of(OVAL).author_s == times_s[-1] and times_s[0] < 0.05
    top_speed = lap.states[:, 13:16].norm(dim=1).max().item()
    assert (np.diff(bounds) / np.diff(times_s) < 1.1 * top_speed).all()


@pytest.mark.parametrize("name", ["author", "record", "script"])
def test_episodes_begin_on_the_lap_that_is_named(name: str, tmp_path: Path) -> None:
    medals, script = medals_of(OVAL), tmp_path / "my lap.inputs"
    script.write_text(script_of(author_actions(OVAL)))
    env, laps = make(2, lap=1.0, laps=str(script) if name == "script" else name)
    assert laps.laps[0].time_s == (medals.record.time_s if name == "record" else medals.author_s)
    states = laps.laps[0].states[:, STATE.start("position")]
    assert torch.isin(env.race.world.save()[:, STATE.start("position")], states).all()


def test_a_car_s_times_are_those_between_the_ends_of_the_segments() -> None:
    """From the line at 20 m/s, in steps of 1 m: 2.5 s for each 50 m. Another car, from 30 m on, counts after 3 s."""
    times = SegmentTimes([200.0], num_cars=2)
    tracks, cause = np.zeros(2, int), np.zeros(2)
    times.begin(np.arange(2), tracks, np.array([0.0, 30.0]), np.array([True, False]))
    for step in range(1, 151):
        times.follow(tracks, np.array([step, 30.0 + 0.8 * step]), np.full(2, 50.0 * step), cause)
        if step == 50:
            np.testing.assert_allclose(times.mean_s[0], [2.5, np.inf, np.inf, np.inf])
    mean = 2.5 + 0.1 * (50.0 / 16.0 - 2.5)  # the other one, at 16 m/s, from 100 m to 150 m; 100 m were after 4.4 s
    np.testing.assert_allclose(times.mean_s[0], [2.5, 2.5, mean, np.inf])


def test_a_car_that_is_stuck_counts_with_its_time() -> None:
    times = SegmentTimes([200.0], num_cars=1)
    times.segment[:], times.entered_ms[:], times.before[:], times.mean_s[0, 2] = 2, 1000.0, [[120.0], [8950.0]], 1.0
    times.follow(np.zeros(1, int), np.array([120.0]), np.array([9000.0]), np.array([float(EndCause.NO_PROGRESS)]))
    np.testing.assert_allclose(times.mean_s[0], [np.inf, np.inf, 1.0 + 0.1 * (8.0 - 1.0), np.inf])


def test_segments_are_drawn_by_rank_and_by_age() -> None:
    """Lost 0.1, 0.5 and 0.3 s: ranks 3, 1, 2, so 2/11, 6/11 and 3/11. Begun 1, 3 and 5 episodes ago: ages 2, 4, 6."""
    times = SegmentTimes([150.0], num_cars=1)
    times.mean_s[0], times.begun_at[0], times.num_begun[:] = [1.1, 2.5, 1.3], [9, 7, 5], 10
    expected = 0.9 * np.array([2, 6, 3]) / 11 + 0.1 * np.array([2, 4, 6]) / 12
    np.testing.assert_allclose(times.chances(0, np.array([1.0, 2.0, 1.0])), expected)


def test_time_is_lost_where_the_car_stood_still() -> None:
    """The author's actions from the line lose nothing; after a second without gas the first segment takes 1 s more."""
    author = author_actions(OVAL).astype(np.int64)
    for wait, actions in ((0.0, author[:200]), (1.0, np.concatenate([np.full(20, 3), author[:200]]))):
        env, laps = make(1, lost_time=1e-9)
        drive(env, actions)
        num = int(np.isfinite(laps.times.mean_s[0]).argmin())
        lost = laps.times.mean_s[0, :num] - laps._lap_s[0][:num]
        assert num >= 4 and lost[0] == pytest.approx(wait, abs=0.06)
        np.testing.assert_allclose(lost[1:3], 0.0, atol=0.01)


def test_episodes_begin_at_most_two_seconds_before_the_segment() -> None:
    _, laps = make(1, lost_time=1.0)
    window, lap = laps._windows[0][5], laps.laps[0]
    steps = np.flatnonzero(window.numpy())
    assert window.sum() == pytest.approx(1.0)
    assert lap.progress_m[steps[-1]] < 300.0 <= lap.progress_m[steps[-1] + 1]
    assert (lap.progress_m[steps] < 250.0).sum() == 40


def test_most_episodes_begin_where_the_most_time_is_lost() -> None:
    """Of 23 segments the first has 0.9 / 3.73 by rank: 24 %, and some of the others' leads are there too."""
    env, laps = make(200, lost_time=1.0)
    laps.times.mean_s[0] = laps._lap_s[0]
    laps.times.mean_s[0, 15] += 1.0
    env.race.reset()
    there = env.race.tracker["progress_m"]
    assert ((there > 600.0) & (there < 800.0)).float().mean() > 0.25


def test_an_episode_from_the_middle_has_its_own_clock_and_reward() -> None:
    """50 ms cost 0.06, a metre pays 0.01: nothing of the road before the start is in the first reward."""
    env, _ = make(32, lap=1.0, jitter_m=0.5)
    state = env.reset()
    before = env.race.tracker["progress_m"].clone()
    assert (before > 50.0).sum() > 16 and not env.race.tracker["race_time_ms"].any()
    state["action"] = torch.zeros(32, dtype=torch.int64)
    after = env.step(state)["next"]
    metres = env.race.tracker["progress_m"] - before
    torch.testing.assert_close(after["reward"][:, 0], 0.01 * metres - 0.06, rtol=0.0, atol=1e-5)
    assert (after["info", "race_time_ms"] == 50).all()


def test_the_own_lap_is_the_fastest_from_the_start_line() -> None:
    author = author_actions(OVAL).astype(np.int64)
    env, laps = make(2, lap=1e-9, laps="own")
    drive(env, np.concatenate([[3] * 10, author, [0] * 20])[: len(author) + 5])
    assert laps.laps == [None], "the car has not finished"
    env, laps = make(2, lap=1e-9, laps="own")
    drive(env, author)
    assert laps.laps[0].time_s == medals_of(OVAL).author_s
    same = slice(STATE.start("episode"))  # that of the cars is another
    assert torch.equal(laps.laps[0].states[:, same], start_lap(load_track(OVAL), "author").states[:, same])


def test_a_finish_from_the_middle_is_no_lap() -> None:
    env, laps = make(4, lap=1e-9, laps="own")
    world = env.race.world
    lap = start_lap(load_track(OVAL), "author")
    late = len(lap.states) - 20
    world.lap_states.set_lap(0, lap.states[late : late + 1], lap.zones[late : late + 1])
    world.restore(lap.states[late].repeat(4, 1).index_fill(1, torch.tensor(0), 0.0))
    env.race.tracker.reset(lap.zones[late].repeat(4), torch.ones(4, dtype=torch.bool))
    laps.begin(torch.ones(4, dtype=torch.bool))
    outcome = None
    for action in lap.actions[late:].tolist():
        outcome = env.race.step(torch.full((4,), action))
    assert outcome.terminated.all() and laps.laps == [None]


@pytest.mark.parametrize("starts", [{"laps": "author"}, {"laps": "own"}])
def test_a_restored_and_a_copied_race_begin_the_same_episodes(starts: dict[str, str]) -> None:
    author = author_actions(OVAL).astype(np.int64)
    env, laps = make(4, lap=0.3, lost_time=0.4, **starts)
    if starts["laps"] == "own":
        laps.own.best[0] = start_lap(load_track(OVAL), "author")
        laps._take_own(0)
    drive(env, author[:150])
    saved, twin = env.save(), copy.deepcopy(env.race)
    other, _ = make(4, lap=0.3, lost_time=0.4, **starts)
    other.restore(saved)
    for race in (env.race, other.race, twin):
        race.reset()
        for action in author[:60].tolist():
            race.step(torch.full((4,), action))
        race.reset(torch.tensor([True, False, True, True]))
    for race in (other.race, twin):
        assert torch.equal(race.world.save(), env.race.world.save())
        np.testing.assert_array_equal(race.lap_starts.times.mean_s, laps.times.mean_s)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="laps='author': track 'circuit-3' has no author lap"):
        TrackManiaEnv(1, track=generate_track(3), starts=Starts(lap=0.5))
    with pytest.raises(ValueError, match=r"laps='missing\.inputs': .*No such file"):
        make(1, lap=0.5, laps="missing.inputs")
    (tmp_path / "slow.inputs").write_text("0-3.00 press up\n")
    with pytest.raises(ValueError, match=r"laps='.*slow\.inputs': its inputs do not finish 'oval' from the start line"):
        make(1, lap=0.5, laps=str(tmp_path / "slow.inputs"))
    (tmp_path / "words.inputs").write_text("go\n")
    with pytest.raises(ValueError, match=r"laps='.*words\.inputs': .*words\.inputs"):
        make(1, lap=0.5, laps=str(tmp_path / "words.inputs"))
    env, _ = make(2, lost_time=0.5)
    with pytest.raises(ValueError, match="lost_time and of laps=own"):
        env.seed_copies([1, 2])
    make(2, lap=0.5)[0].seed_copies([1, 2])  # these follow from the seed


def test_a_script_that_is_gone_stops_training_but_not_the_evaluation() -> None:
    task = TrackManiaTask(track=OVAL, starts=Starts(lap=0.5, laps="missing.inputs"))  # as for an evaluation
    with pytest.raises(ValueError, match=r"laps='missing\.inputs': .*No such file"):
        task.check_workers(1, in_this_process=True)
