"""From settings to parts: workers and their shares of the cars."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.algorithms.quantile import build_actor, build_learner, build_policy, build_replay
from tm_torchrl.collectors.supervised import SupervisedCollector
from tm_torchrl.data import MiniRace
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.build import build_task
from tm_torchrl.trainers.builders import build_collector, num_workers


@pytest.mark.parametrize(
    ("cores", "num_envs", "at_least", "workers"),
    [(2, 64, 1, 1), (2, 64, 2, 2), (8, 64, 1, 4), (16, 64, 1, 8), (64, 8, 1, 8), (4, 1, 2, 1), (4, 9, 1, 3)],
)
def test_auto_workers_share_the_cars_equally(
    cores: int, num_envs: int, at_least: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest divisor of the cars that is no more than the cores but one: of 64 cars on 8 cores, 4 workers."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert num_workers("auto", num_envs=num_envs, at_least=at_least) == workers


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (0, "collector.num_workers=0: auto or a number of at least 1 wanted"),
        ("two", "collector.num_workers='two': auto or"),
        (3, "env.num_envs=64: cannot be shared equally by collector.num_workers=3; use a multiple of it"),
    ],
)
def test_wrong_numbers_of_workers_are_explained(wanted: int | str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        num_workers(wanted, num_envs=64)
    assert message in str(caught.value)


def collector_of(*overrides: str) -> SupervisedCollector:
    settings = compose_settings(["experiment=cartpole_iqn", *overrides])
    task = build_task(settings)
    actor = build_actor(settings, task, device=torch.device("cpu"))
    policy = build_policy(settings, actor)
    return build_collector(settings, task, policy, device=torch.device("cpu"), log=print)


@pytest.mark.parametrize("kind", ["multi_async", "MultiaSyncDataCollector", "MultiAsyncCollector"])
def test_asynchronous_workers_by_all_their_names(kind: str) -> None:
    collector = collector_of("collector=multi_async", f"collector.kind={kind}", "collector.num_workers=4")
    assert (collector.kind, len(collector.make_env)) == ("multi_async", 4)
    assert [make.keywords["first"] for make in collector.make_env] == [0, 2, 4, 6]  # type: ignore[attr-defined]
    collector.shutdown()


def test_asynchronous_workers_cannot_wait() -> None:
    with pytest.raises(ConfigError, match=r"collector\.overlap=false: workers of multi_async always drive on"):
        collector_of("collector=multi_async", "collector.overlap=false")


def test_only_some_floats_are_seen() -> None:
    task = build_task(compose_settings(["env.floats=[velocity,gear]"]))
    arguments = task.network_arguments()
    assert arguments["num_inputs"] == 184  # what the environment delivers and the replay keeps
    assert arguments["normalize"].columns.tolist() == [34, 56, 57, 58]


def test_a_float_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"^env: floats: 'velocty' is no field of the observation; did you mean vel"):
        build_task(compose_settings(["env.floats=[velocty]"]))


def test_a_mini_race_needs_its_clock() -> None:
    settings = compose_settings(["env.floats=[velocity]", "replay.mini_race={max_steps: 140}"])
    with pytest.raises(ConfigError, match=r"its clock stands in the floats, and env.floats=\['velocity'\] hides it"):
        build_replay(settings, build_task(settings))


def test_the_linesight_recipe_has_its_potential() -> None:
    """The current point of the line lies at 62 to 64 of the floats."""
    settings = compose_settings(
        [
            "experiment=linesight",
            "network=mlp",
            "env.pixels=false",
            "replay.capacity=1000",
            "replay.learning_starts=500",
        ]
    )
    replay = build_replay(settings, build_task(settings))
    (race,) = [part for part in replay.buffer._transform if isinstance(part, MiniRace)]
    assert race.potential is not None
    observation = torch.zeros(3, 184)
    observation[:, 62:65] = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 300.0, 0.0]])
    assert race.potential(observation).tolist() == pytest.approx([-0.5, -0.2, -2.5])


def test_a_potential_that_cannot_be_is_named() -> None:
    potential = "{_target_: tm_torchrl.envs.rewards.Potential, per_metre: -0.1}"
    settings = compose_settings([f"replay.mini_race={{num_actions: 140, potential: {potential}}}"])
    with pytest.raises(ConfigError, match=r"^replay\.mini_race\.potential\.per_metre: .* did you mean per_m"):
        build_replay(settings, build_task(settings))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("estimator.temperature=abc", "estimator.temperature='abc': a number wanted"),
        (
            "+estimator.temprature=1",
            "estimator.temprature: MunchausenEstimator takes no such setting; did you mean tem",
        ),
        ("estimator.temperature=-1", "estimator: temperature=-1"),
        ("estimator.name=tripple", "estimator.name='tripple': "),
        ("target_update.tau=abc", "target_update.tau='abc': a number wanted"),
    ],
)
def test_wrong_settings_of_the_learner_are_named(override: str, message: str) -> None:
    settings = compose_settings([override, "objective.network.hidden_sizes=[8]", "objective.network.head_size=8"])
    task = build_task(settings)
    with pytest.raises(ConfigError) as caught:
        build_learner(settings, build_actor(settings, task, device=torch.device("cpu")), precision="float32")
    assert str(caught.value).startswith(message)


def test_noisy_layers_with_held_actions() -> None:
    settings = compose_settings(["exploration=noisy", "objective.network.linear=noisy", "exploration.mean_steps=4"])
    policy = build_policy(settings, build_actor(settings, build_task(settings), device=torch.device("cpu")))
    assert {"held_action", "held_steps"} <= set(policy.module.out_keys)
    settings["exploration"]["epsilon"] = None
    with pytest.raises(ConfigError, match=r"mean_steps=4, epsilon=null: noise alone draws no actions"):
        build_policy(settings, build_actor(settings, build_task(settings), device=torch.device("cpu")))
