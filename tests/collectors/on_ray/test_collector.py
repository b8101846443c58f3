"""Which batches are requested and which are left out; no Ray is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from tests.collectors.failing_env import CountingBatch, make_policy
from tm_torchrl.collectors import RayCollector
from tm_torchrl.collectors.on_ray import collector as on_ray
from tm_torchrl.collectors.on_ray.worker import Lost, NotStarted, RayWorker, Weights
from tm_torchrl.collectors.supervised import WorkerError
from tm_torchrl.collectors.watchdog import WorkerFailed
from tm_torchrl.envs.transformed import transformed


class Answers(RayWorker):
    """Answers when the test tells it to, from an environment in this process."""

    num_requests = 0

    def request(self, weights: Any, *, num_frames: int = 0) -> None:
        self.is_requested, self.used = True, self.weights()
        self.num_requests += 1

    def answer(self, outcome: Any = None) -> None:
        if outcome is None:
            outcome = transformed(CountingBatch(2), ()).rollout(4, break_when_any_done=False)
            self.num_batches += 1
        self.finished.put((self, outcome))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[RayCollector, list[Answers], list[str]]]]:
    """Makes collectors of workers that answer when they are told to."""
    made: list[RayCollector] = []
    monkeypatch.setattr(on_ray, "connect", lambda address, num_cpus: None)
    monkeypatch.setattr(on_ray, "RayWorker", Answers)
    numbers = iter(range(100))
    monkeypatch.setattr(
        RayCollector,
        "_newest_weights",
        lambda self: Weights(None, version=next(numbers), num_batches=self._pushed_at),
    )

    def build(workers: int = 2, **options: Any) -> tuple[RayCollector, list[Answers], list[str]]:
        messages: list[str] = []
        functions = [partial(CountingBatch, num_envs=2)] * workers
        made.append(
            RayCollector(functions, make_policy(), frames_per_batch=8 * workers, log=messages.append, **options)
        )
        made[-1]._prepare()
        made[-1]._request_those_due()
        groups: Any = made[-1]._groups
        return made[-1], groups, messages

    yield build
    for each in made:
        each.shutdown()


def lane(batch: Any) -> int:
    return int(batch["collector", "lane"][0, 0])


def test_a_batch_of_old_weights_is_left_out_and_its_lanes_begin_new_trajectories(make: Any) -> None:
    """Two workers, limit 3: after 6 batches of worker 0 the weights of worker 1 are 6 / 2 = 3 old, after 7 3.5."""
    collector, (first, second), messages = make(max_weights_age=3.0)
    for num_batches, is_used in ((6, True), (7, False)):
        for _ in range(num_batches):
            first.answer()
            assert lane(next(collector)) == 0
            collector.push_weights()
        collector.metrics()
        second.answer()
        first.answer()
        assert lane(next(collector)) == (2 if is_used else 0)
        if is_used:
            assert collector.metrics()["weights_age"] == 3.0
            assert lane(next(collector)) == 0
            collector.push_weights()
    assert collector.metrics()["left_out"] == 1.0
    assert len(messages) == 1 and "worker 1 is slow" in messages[0] and "max_weights_age=3" in messages[0]
    assert collector._episode_of_lane.tolist()[2:] == [1, 1], "a step is missing, so no sum may go across"


def test_weights_that_are_never_pushed_do_not_age(make: Any) -> None:
    collector, (first, second), messages = make(max_weights_age=1.0)
    for _ in range(5):
        first.answer()
        assert lane(next(collector)) == 0
    second.answer()
    assert lane(next(collector)) == 2 and not messages


def test_each_worker_has_one_batch_on_its_way(make: Any) -> None:
    collector, workers, _ = make()
    for _ in range(5):
        workers[0].answer()
        next(collector)
    assert [worker.num_requests for worker in workers] == [6, 1]


def test_synchronous_workers_wait_for_each_other_and_share_their_weights(make: Any) -> None:
    collector, (first, second), _ = make(is_synchronous=True)
    for number in range(1, 4):
        assert [first.num_requests, second.num_requests] == [number, number]
        first.answer()
        assert lane(next(collector)) == 0
        collector._request_those_due()
        assert first.num_requests == number, "the round goes on"
        second.answer()
        assert lane(next(collector)) == 2
        collector._request_those_due()


def test_a_round_does_not_wait_for_a_worker_that_restarts(make: Any) -> None:
    collector, (first, second), messages = make(is_synchronous=True)
    for each in (first, second):
        each.answer()
        next(collector)
    collector._request_those_due()
    second.answer(WorkerFailed("worker 1 ended"))
    first.answer()
    next(collector)
    assert "worker 1 ended" in messages[0]
    collector._request_those_due()
    second.is_restarting = True
    for number in (4, 5):
        first.answer()
        next(collector)
        collector._request_those_due()
        assert first.num_requests == number


def test_a_failure_before_any_batch_ends_and_a_later_one_of_a_new_worker_does_not(make: Any) -> None:
    collector, (first, second), _ = make()
    first.answer()
    next(collector)
    second.answer(WorkerFailed("no such file on this node"))
    first.answer()
    assert lane(next(collector)) == 0
    collector, (first, second), _ = make()
    first.answer(Lost("worker 0 ended: its node has ended"))
    second.answer()
    assert lane(next(collector)) == 2
    collector, (first, _), _ = make()
    first.answer(WorkerFailed("no such track"))
    with pytest.raises(WorkerError, match="before their first batch: no such track"):
        next(collector)


def test_a_worker_without_a_place_is_no_failure(make: Any) -> None:
    collector, (first, second), messages = make(max_restarts=0)
    first.answer()
    next(collector)
    second.answer(NotStarted("worker 1 has not started within 300 s"))
    first.answer()
    next(collector)
    assert messages == ["worker 1 has not started within 300 s. It is tried again."]
    assert second.num_requests == 2


def test_without_any_batch_for_too_long_collection_ends(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collector, (first, second), _ = make(hang_timeout_s=30.0)
    first.answer()
    next(collector)
    now = collector._delivered_at
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: now + 331.0)
    second.answer(WorkerFailed("worker 1 has not started"))
    with pytest.raises(WorkerError, match=r"no worker has delivered a batch for 300 s; .*worker 1 has not started"):
        next(collector)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_weights_age": 0.0}, "max_weights_age=0.0"),
        ({"resources": {"CPU": -1}}, "resources=.*CPU"),
        ({"push_every": 0}, "push_every=0"),
    ],
)
def test_wrong_settings_are_explained(options: dict[str, Any], message: str, make: Any) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_workers_push_every_second_batch(make: Any) -> None:
    collector, (first, _), _ = make(push_every=2)
    with torch.no_grad():
        collector.policy[0].bias.fill_(5.0)
    seen = []
    for _ in range(4):
        first.answer()
        next(collector)
        collector.push_weights()
        seen.append(float(collector._staged["module.0.module.bias"][0]))
    assert (seen[0] == 5.0, seen[1:]) == (False, [5.0, 5.0, 5.0])
