"""Reward terms against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.envs.rewards import (
    CloseToLine,
    Failure,
    FinalSpeed,
    Finish,
    Neoslide,
    Potential,
    Progress,
    Speedslide,
    Step,
    Time,
    default_reward,
    sum_terms,
)
from tm_torchrl.world.observation import observation_layout

LAYOUT = observation_layout(5)


def step(
    *, num_frames: int = 0, finished: bool = False, failed: bool = False, before: dict | None = None, **after: object
) -> Step:
    """A step of one car whose observations are 0 but for the named fields."""
    numbers = {key: after.pop(key) for key in ("progress_m", "elapsed_ms", "speed", "speed_before") if key in after}

    def observation(fields: dict) -> torch.Tensor:
        out = torch.zeros(1, LAYOUT.size)
        for name, value in fields.items():
            out[0, LAYOUT[name]] = torch.as_tensor(value, dtype=torch.float32)
        return out

    def number(name: str) -> torch.Tensor:
        return torch.tensor([float(numbers.get(name, 0.0))])

    return Step(
        observation_before=observation(before or {}),
        observation=observation(after),
        progress_m=number("progress_m"),
        elapsed_ms=number("elapsed_ms"),
        speed_before=number("speed_before"),
        speed=number("speed"),
        is_finished=torch.tensor([finished]),
        is_failed=torch.tensor([failed]),
        action=torch.zeros(1, dtype=torch.int64),
        layout=LAYOUT,
        num_frames=num_frames,
    )


def value(term: object, s: Step) -> float:
    out = term(s)
    assert out.shape == (1,) and out.dtype == torch.float32
    return out.item()


def test_time_and_progress():
    s = step(progress_m=1.5, elapsed_ms=50.0)
    assert value(Time(), s) == pytest.approx(-0.06)
    assert value(Progress(), s) == pytest.approx(0.015)
    assert sum_terms(default_reward(), s).item() == pytest.approx(-0.045)


def test_finish():
    assert value(Finish(bonus=3.0), step(finished=True)) == 3.0
    assert value(Finish(bonus=3.0), step()) == 0.0


def test_failure():
    assert value(Failure(reward=-3.0), step(failed=True)) == -3.0
    assert value(Failure(reward=-3.0), step(finished=True)) == 0.0


def test_final_speed_pays_gained_speed_only_forwards():
    onwards = step(speed_before=10.0, speed=14.0, velocity=[0, 0, 5])
    assert value(FinalSpeed(as_if_s=2.0), onwards) == pytest.approx(0.08)
    assert value(FinalSpeed(as_if_s=2.0), step(speed_before=10.0, speed=14.0, velocity=[0, 0, -5])) == 0.0


def zones(here: list[float], after: list[float]) -> list[float]:
    return [*here, *after, *([0.0] * 114)]


def test_potential():
    """phi = -0.1 x clip(distance, 2, 25): 3-4-0 is 5 m away, 0-0-30 is 30."""
    near, far = zones([3, 4, 0], [3, 4, 10]), zones([0, 0, 30], [0, 0, 40])
    term = Potential(gamma=0.9)
    s = step(before={"zones_ahead": far}, zones_ahead=near)
    assert value(term, s) == pytest.approx(0.9 * -0.5 - -2.5)
    s = step(before={"zones_ahead": near}, zones_ahead=far, finished=True)
    assert value(term, s) == pytest.approx(0.0 - -0.5), "nothing is promised after the finish"
    s = step(before={"zones_ahead": zones([0, 0, 0], [0, 0, 5])}, zones_ahead=zones([0, 0, 0], [10, 0, 0]))
    assert value(Potential(gamma=1.0, pointing=0.5), s) == pytest.approx(0.5 * (0 - 1) - 0.0), "now it points sideways"


@pytest.mark.parametrize(
    ("sideways", "forward_kmh", "wheels", "expected"),
    [
        (8.0, 100.0, 1, 1.0),  # friction 80: (160 - 80) / 80 = 1
        (6.0, 100.0, 1, 0.5),  # (120 - 80) / 80 = 0.5
        (10.0, 100.0, 1, 0.5),  # 1.5 is as far from 1
        (4.0, 100.0, 1, 0.0),
        (7.75, 150.0, 1, 1.0),  # friction half way from 80 to 75: 77.5; (155 - 77.5) / 77.5 = 1
        (5.5, 600.0, 1, 1.0),  # constant beyond 500 km/h: 55
        (8.0, 100.0, 0, 0.0),
    ],
)
def test_speedslide(sideways: float, forward_kmh: float, wheels: int, expected: float):
    s = step(velocity=[-sideways, 0, forward_kmh / 3.6], wheel_has_contact=[1, 1, 1, wheels])
    assert value(Speedslide(weight=2.0), s) == pytest.approx(2.0 * expected, abs=1e-5)


def test_neoslide_and_close_to_line():
    assert value(Neoslide(weight=0.5), step(velocity=[-2.0, 0, 30])) == 0.5
    assert value(Neoslide(weight=0.5), step(velocity=[1.9, 9, 30])) == 0.0
    assert value(CloseToLine(weight=-0.01), step(zones_ahead=zones([6, 8, 0], [0, 0, 0]))) == pytest.approx(-0.1)
    assert value(CloseToLine(weight=-0.01), step(zones_ahead=zones([1, 0, 0], [0, 0, 0]))) == pytest.approx(-0.05)


def test_weights_may_be_schedules():
    def fading(num_frames: int) -> float:
        return max(0.0, 1.0 - num_frames / 1000)

    term = Progress(per_m=fading)
    assert value(term, step(progress_m=2.0, num_frames=0)) == 2.0
    assert value(term, step(progress_m=2.0, num_frames=750)) == 0.5
    assert value(term, step(progress_m=2.0, num_frames=5000)) == 0.0
