"""Workers and their shares of the environments."""

from __future__ import annotations

from typing import Any

import pytest

from tm_torchrl.collectors.make import share_equally
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training


@pytest.mark.parametrize(
    ("cores", "num_envs", "at_least", "workers"),
    [(2, 64, 1, 1), (2, 64, 2, 2), (8, 64, 1, 4), (16, 64, 1, 8), (64, 8, 1, 8), (4, 1, 2, 1), (4, 9, 1, 3)],
)
def test_auto_workers_share_the_cars_equally(
    cores: int, num_envs: int, at_least: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest divisor of the cars that is no more than the cores but one: of 64 cars on 8 cores, 4 workers."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert share_equally("auto", num_envs=num_envs, at_least=at_least) == workers


@pytest.mark.parametrize(
    ("given", "message"),
    [(0, "num_workers=0"), ("two", "num_workers='two'"), (3, "num_workers=3: .*env.num_envs=64")],
)
def test_wrong_numbers_of_workers_are_explained(given: int | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share_equally(given, num_envs=64)


def collector_of(*overrides: str) -> Any:
    settings = compose_settings(["experiment=cartpole_iqn", "precision=float32", *overrides])
    return make_training(settings, make_task(settings)).source


@pytest.mark.parametrize("kind", ["multi_async", "MultiaSyncDataCollector", "MultiAsyncCollector"])
def test_asynchronous_workers_by_all_their_names(kind: str) -> None:
    collector = collector_of("collector=multi_async", f"collector.kind={kind}", "collector.num_workers=4")
    assert (collector.kind, len(collector.make_env)) == ("multi_async", 4)
    assert [make.keywords["first"] for make in collector.make_env] == [0, 2, 4, 6]
    collector.shutdown()


def test_asynchronous_workers_cannot_wait() -> None:
    with pytest.raises(ConfigError, match=r"collector\.overlap=false"):
        collector_of("collector=multi_async", "collector.overlap=false")
