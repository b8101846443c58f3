"""Recorded laps: what was seen and played, equal for any number of cars, and driven again from their starts."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tm_torchrl.data.demonstrations.writer import DrivenLap
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.recording import STARTS, Disturbances, record_attempts, stretches
from tm_torchrl.tracks import blocks
from tm_torchrl.world.drivers import Pursuit

TRACK = blocks("SSLSS", name="short")


def recorded(
    num_cars: int,
    *,
    first: int = 0,
    share: float = 0.2,
    pixels: bool = False,
    starts: str = "perturbed",
    student: Callable[[], Tensor] | None = None,
) -> list[DrivenLap | None]:
    """Laps of the scripted driver."""
    env = TrackManiaEnv(num_cars, track=TRACK, starts=STARTS[starts], pixels=pixels, seed=0)
    driver = Pursuit([TRACK], env.world.track_index)

    def act() -> Tensor:
        return driver(env.world.rows(), env.race.tracker)

    found = Disturbances(share)
    return record_attempts(env, act, first=first, seed=1, disturbances=found, student=student, keeps_pixels=pixels)


def test_an_attempt_depends_on_its_number_alone() -> None:
    together, alone = recorded(4), [recorded(1, first=number)[0] for number in range(4)]
    assert sum(lap is not None for lap in together) >= 3
    for one, other in zip(together, alone, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.time_s == other.time_s
            for name in ("observation", "action", "chosen"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len({lap.time_s for lap in together if lap is not None}) >= 3, "starts and disturbances differ"


def test_a_lap_is_driven_again_from_its_start() -> None:
    (lap,) = recorded(1, share=0.0)
    env = TrackManiaEnv(1, track=TRACK, seed=0)
    env.race.reset()
    env.world.restore(torch.from_numpy(lap.start[None]))
    for step, action in enumerate(lap.action.tolist()):
        if step > 5:  # by then the previous actions are the lap's own
            np.testing.assert_array_equal(env.race.observation[0].numpy(), lap.observation[step])
        outcome = env.race.step(torch.tensor([action]))
    assert bool(outcome.terminated)
    assert env.race.tracker["race_time_ms"].item() / 1000.0 == pytest.approx(lap.time_s)


def test_random_actions_are_marked_and_seen() -> None:
    (lap,) = recorded(1, share=0.3)
    plan = Disturbances(0.3).of(0, num_steps=len(lap.action))
    assert 0.1 < (plan >= 0).mean() < 0.5
    np.testing.assert_array_equal(lap.action, np.where(plan >= 0, plan, lap.chosen))
    assert (lap.action != lap.chosen).mean() > 0.1


def test_images_are_kept_if_asked_for() -> None:
    (lap,) = recorded(1, share=0.0, pixels=True)
    assert lap.pixels.shape == (len(lap.action), 1, 64, 64) and lap.pixels.std() > 10
    assert recorded(1, share=0.0)[0].pixels is None


def test_a_driver_that_weighs_actions_takes_the_cheapest_and_the_rest_is_kept() -> None:
    env = TrackManiaEnv(2, track=TRACK, starts=STARTS["line"], seed=0)
    costs = torch.linspace(3.0, 0.25, 12).repeat(2, 1)  # the last action is the cheapest; the first costs 2.75 s more
    costs[1, 5], costs[0, 3] = -2000.0, torch.inf
    nothing = Disturbances(0.0)
    one, two = record_attempts(env, lambda: costs, first=0, disturbances=nothing, weighs_actions=True, num_steps=4)
    assert one.chosen.tolist() == one.action.tolist() == [11] * 4 and two.chosen.tolist() == [5] * 4
    assert one.regret.dtype == np.float16
    assert (one.regret[:, 3] == 1000.0).all(), "it was not tried"
    tried = np.delete(np.arange(12), 3)
    np.testing.assert_allclose(one.regret[:, tried], np.tile(np.linspace(2.75, 0.0, 12)[tried], (4, 1)), rtol=1e-3)
    assert two.regret[0].max() == 1000.0, "as if it had not been tried"
    costs[:] = torch.inf
    one, _ = record_attempts(env, lambda: costs, first=0, disturbances=nothing, weighs_actions=True, num_steps=1)
    assert (one.regret == 0.0).all(), "no plan came to an end, so all actions are equal"


def test_laps_from_anywhere_are_shorter() -> None:
    laps = [lap for lap in recorded(8, share=0.0, starts="anywhere") if lap is not None]
    assert len({len(lap.action) for lap in laps}) == len(laps) > 3


def test_a_student_drives_half_of_the_time_and_the_driver_says_what_it_should_have_done() -> None:
    """The student holds the gas and steers nowhere; without it the driver would not choose the same elsewhere."""
    (lap,) = recorded(1, share=0.0, student=lambda: torch.zeros(1, dtype=torch.int64))
    assert lap is not None
    is_student = stretches(0, num_steps=len(lap.action), seed=1)
    assert 0.2 < is_student.mean() < 0.8
    np.testing.assert_array_equal(lap.action, np.where(is_student, 0, lap.chosen))
    assert (lap.chosen[is_student] != 0).any()


def test_disturbances_are_held_for_up_to_four_steps() -> None:
    plan = Disturbances(0.05, seed=3).of(2, num_steps=20_000)
    edges = np.flatnonzero(np.diff(np.concatenate([[-1], plan, [-1]])))
    lengths = [end - begin for begin, end in itertools.pairwise(edges) if plan[begin] >= 0]
    assert set(lengths) >= {1, 2, 3, 4}
    assert np.mean(np.array(lengths) <= 4) > 0.95, "longer ones are two, one after the other"
    assert (Disturbances(0.05, seed=4).of(2, num_steps=20_000) != plan).any()
    with pytest.raises(ValueError, match="disturbed=1"):
        Disturbances(1.0)
