"""``env=game``: the task, its refusals, and trainings through the real protocol, with emulators."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.game.emulator.faults import FaultyServer
from tests.game.ways import served
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameGone
from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.construct import ConfigError, construct_later
from tm_torchrl.tasks.game import GameTask
from tm_torchrl.tasks.task import make_task
from tm_torchrl.tracks import load_track
from tm_torchrl.trainers import train
from tm_torchrl.trainers.run import make_training
from tm_torchrl.world.actions import FORWARD
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.tracker import Limits

EMULATORS = ["env=game", "game=emulator2", "env.track=oval"]
SMALL = [
    "objective.network.hidden_sizes=[16]",
    "replay.learning_starts=200",
    "replay.capacity=2000",
    "replay.batch_size=16",
    "precision=float32",
    "log.tensorboard=false",
    "evaluation.num=1",
    "env.evaluation_limits.race_s=2",
]


@pytest.fixture
def running() -> Iterator[Protocol2Server]:
    with served(load_track("oval"), countdown_ms=100) as server:
        yield server


def one_game(server: Protocol2Server) -> list[str]:
    """Settings of a person with one game that runs already."""
    return [
        "env=game",
        "game=tmi2",
        f"game.first_address={server.port}",
        "game.has_evaluation_instance=false",
        "collector=single",
        "env.track=oval",
    ]


def task_of(overrides: list[str]) -> GameTask:
    task = make_task(compose_settings(overrides))
    assert isinstance(task, GameTask)
    return task


def test_two_emulators_and_one_to_evaluate_in() -> None:
    task = task_of(EMULATORS)
    assert (task.num_envs, task.num_workers, task.game.evaluation_instance, task.label) == (2, 2, 2, "oval")
    assert task.in_keys == ["observation"] and task.network_arguments()["num_inputs"] == 184
    assert task.game.launcher.track == "oval"  # type: ignore[union-attr]
    assert [task.game.client_of(k).address for k in range(3)] == [0, 0, 0]
    task = task_of([*EMULATORS, "game.first_address=9000"])
    assert [task.game.client_of(k).address for k in range(3)] == [9000, 9001, 9002]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env=game"], "game=None: choose game instances, such as game=emulator2"),
        (["env=game", "game=emulater2"], "did you mean emulator2"),
        ([*EMULATORS, "game.num=0"], "num=0: must be 1 to 256"),
        ([*EMULATORS, "game.num=100000"], "num=100000: must be 1 to 256"),
        (["env=game", "game=tmi2", "game.first_address=0"], "first_address=0"),
        ([*EMULATORS, "game.has_evaluation_instance=false"], "num=2, has_evaluation_instance=false"),
        ([*EMULATORS, "env.action_block=3"], "action_block=3"),
        ([*EMULATORS, "env.past_starts=2"], "past_starts=2"),
        ([*EMULATORS, "env.evaluation_laps=0"], "evaluation_laps=0"),
        ([*EMULATORS, "game.client.hold_s=0"], "hold_s=0"),
        (["env=game", "game=tmi2", "game.first_address=65535"], "first_address=65535: instance 1: port=65536"),
        (["env=game", "game=tmi2", "game.first_address=-1"], "first_address=-1: instance 0: port=-1"),
        (["env=game", "game=tmi2", "game.first_address=TMInterface0"], "address='TMInterface0': must be a port"),
        (["env=game", "game=tmi1", "game.first_address=../x0"], r"channel='\.\./x0': "),
        ([*EMULATORS, "game.pauses_s=[-1]"], r"pauses_s=\[-1\]"),
        ([*EMULATORS, "game.relaunch_after=0"], "relaunch_after=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(compose_settings(overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*EMULATORS, "collector.num_workers=1"], "each of the 2 game instances needs its own worker process"),
        (
            ["env=game", "game=emulator2", "game.num=1", "game.has_evaluation_instance=false"],
            "use collector=single",
        ),
    ],
)
def test_collections_that_games_cannot_share_are_refused(overrides: list[str], message: str) -> None:
    settings = compose_settings(overrides)
    task = make_task(settings)
    with pytest.raises(ConfigError, match=message):
        construct_later(settings["collector"], name="collector")(task, nn.Identity())


def test_connections_do_not_travel_to_workers(running: Protocol2Server) -> None:
    task = task_of(one_game(running))
    env = task.env_to_look_at()
    assert task._worlds
    copy = pickle.loads(pickle.dumps(task))
    assert copy._worlds == {} and copy.game == copy.game and copy.label == "oval"
    env.close()
    task.close()


def test_training_goes_on_where_it_was_before_an_evaluation_in_the_same_game(running: Protocol2Server) -> None:
    task = task_of([*one_game(running), "env.past_starts=0.5"])
    env: Any = task.make_env(num_envs=1)
    now = env.reset()
    for _ in range(20):
        now["action"] = torch.tensor([FORWARD])
        now = env.step(now)["next"]
    before = env.world.rows().clone()
    (row,) = task.evaluate(lambda observation: torch.tensor([3]), num=4, seed=0)  # type: ignore[arg-type]
    assert row["num_laps"] == task.evaluation_laps and row["end_causes"] == ["no_progress"] * 2
    assert torch.equal(env.world.rows(), before)
    now["action"] = torch.tensor([FORWARD])
    env.step(now)
    assert env.world.rows()[0, CAR_ROW["race_time_ms"]].item() == 1050.0
    env.close()
    assert not env.world.client.is_connected


def test_an_evaluation_may_come_first_and_a_process_that_ends_lets_the_game_go(running: Protocol2Server) -> None:
    program = f"""
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks import make_task
import torch
task = make_task(compose_settings({one_game(running)!r}))
(row,) = task.evaluate(lambda observation: torch.tensor([3]), num=1, seed=0)
print(row["end_causes"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "['no_progress']\n", done.stderr
    end = time.monotonic() + 10.0
    while running.last_farewell != "it said good-bye" and time.monotonic() < end:
        time.sleep(0.01)
    assert running.last_farewell == "it said good-bye", "the game would have waited for it"


def test_a_training_in_one_running_game(running: Protocol2Server, tmp_path: Path) -> None:
    summary = train(
        [
            *one_game(running),
            *SMALL,
            "total_frames=600",
            "evaluation.every_frames=300",
            "collector.frames_per_batch=100",
        ],
        folder=tmp_path,
        is_quiet=True,
    )
    assert summary.frames == 600
    assert summary.rows[0]["end_causes"] == ["time_limit"]  # its evaluations last two seconds
    assert summary.rows[0]["progress_m"] != [0.0]


@pytest.mark.parametrize("failure", [GameGone, KeyboardInterrupt])
def test_a_last_evaluation_that_fails_costs_nothing_that_was_learnt(
    running: Protocol2Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def evaluate(self: GameTask, *arguments: Any, **options: Any) -> None:
        raise failure("the game at port 8479 closed the connection")

    monkeypatch.setattr(GameTask, "evaluate", evaluate)
    ending = r"\nThe run ended; its checkpoints are complete" if failure is GameGone else ""
    message = "closed the connection" + ending
    with pytest.raises(failure, match=message):
        train(
            [
                *one_game(running),
                *SMALL,
                "total_frames=60",
                "collector.frames_per_batch=60",
                "checkpoint.keep_replay=true",
            ],
            folder=tmp_path,
            is_quiet=True,
        )
    assert max(path.name for path in (tmp_path / "checkpoints").glob("frames_*")) == "frames_000000000060"
    assert any((tmp_path / "replay" / "train").iterdir())


def collected_through_faults(seed: int, *, num_batches: int) -> None:
    """Transitions of a collection against a failing game are those of the simulator, whose inputs are replayed."""
    server = FaultyServer(load_track("oval"), seed=seed, every=20.0, freeze_s=1.0, countdown_ms=100)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    overrides = [
        *one_game(server),
        *SMALL,
        "collector.frames_per_batch=100",
        "env.past_starts=0",
        "env.limits.no_progress_s=1",
        "game.client.map_path=oval.Challenge.Gbx",
        "game.client.timeout_s=0.5",
        "game.client.connect_timeout_s=3",
        "game.pauses_s=[0,0,0,0,0,0,0,0]",
    ]
    settings = compose_settings(overrides)
    task = task_of(overrides)
    collector: Any = make_training({**settings, "precision": "float32"}, task).source
    try:
        steps = torch.cat([next(collector) for _ in range(num_batches)], 1)[0]
        assert collector.num_restarts == 0
    finally:
        collector.shutdown()
        task.close()
        server.stop()
        thread.join(10.0)
    assert sum(server.num_faults.values()) >= num_batches and len(server.num_faults) >= 3
    yardstick = TrackManiaEnv(1, track="oval", limits=Limits(race_s=90.0, no_progress_s=1.0))
    now = yardstick.reset()
    for i in range(len(steps)):
        assert torch.equal(steps["observation"][i], now["observation"][0]), f"step {i}"
        now["action"] = steps["action"][i].unsqueeze(0)
        now = yardstick.step(now)["next"]
        for key in ("observation", "reward", "terminated", "truncated"):
            assert torch.equal(steps["next", key][i], now[key][0]), f"step {i}: {key}"
        if bool(now["done"]):
            now = yardstick.reset()


def test_what_is_collected_from_a_failing_game_is_the_simulator_s() -> None:
    collected_through_faults(0, num_batches=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_what_is_collected_through_many_faults_is_the_simulator_s(seed: int) -> None:
    collected_through_faults(seed, num_batches=40)


@pytest.mark.slow
def test_a_training_in_two_emulators_that_start_by_themselves(tmp_path: Path) -> None:
    before = threading.active_count()
    summary = train(
        [*EMULATORS, *SMALL, "total_frames=800", "evaluation.every_frames=800", "collector.frames_per_batch=200"],
        folder=tmp_path,
        is_quiet=True,
    )
    assert summary.frames == 800
    assert summary.rows[0]["num_laps"] == 1
    assert threading.active_count() <= before + 2  # no server thread, no reader is left


class InThisProcess:
    """A launcher of emulators in threads, which is quicker than in processes."""

    def __init__(self) -> None:
        self.running: list[_Thread] = []

    def launch(self, instance: int, *, address: int | str) -> _Thread:
        self.running.append(_Thread(Protocol2Server(load_track("oval"), countdown_ms=100)))
        return self.running[-1]


class _Thread:
    is_due = False

    def __init__(self, server: Protocol2Server) -> None:
        self.server = server
        self.address = server.port
        self._thread = threading.Thread(target=server.serve, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(10.0)


def test_a_game_that_ends_is_started_anew_and_costs_no_worker() -> None:
    settings = compose_settings([*EMULATORS, *SMALL, "game.num=1", "collector.frames_per_batch=60"])
    task = task_of([*EMULATORS, "game.num=1", "game.client.connect_timeout_s=2"])
    launcher = InThisProcess()
    task.game = dataclasses.replace(task.game, launcher=launcher)
    said: list[str] = []
    settings["collector"]["kind"] = "single"  # this process drives, and can look for the emulator
    settings["precision"] = "float32"
    collector: Any = make_training(settings, task, log=said.append).source
    try:
        batches = [next(collector)]
        client: Any = task._worlds[0].client
        client._launched.stop()
        batches += [next(collector), next(collector)]
        assert client.num_relaunches == 1
        assert (collector.num_restarts, said) == (0, [])
        assert [batch.numel() for batch in batches] == [60] * 3
        joined = torch.cat([batch["observation"] for batch in batches], 1)
        after = torch.cat([batch["next", "observation"] for batch in batches], 1)
        done = torch.cat([batch["next", "done"] for batch in batches], 1)[0, :-1, 0]
        assert torch.equal(joined[0, 1:][~done], after[0, :-1][~done]), "a step is missing or was played twice"
    finally:
        collector.shutdown()
        task.close()
    assert len(launcher.running) == 3  # to look at, to train in, and anew
    assert not any(thread.is_running for thread in launcher.running), "whoever starts a game ends it"


@pytest.mark.slow
def test_a_first_finish_through_the_protocol(tmp_path: Path) -> None:
    """Measured: 70,000 frames with seed 0 on two busy cores."""
    summary = train(
        ["env=game", "game=emulator2", "total_frames=160_000", "evaluation.every_frames=20_000",
         "evaluation.target_score=0.9"],
        folder=tmp_path,
        is_quiet=True,
    )  # fmt: skip
    assert summary.best_rows[0]["finish_rate"] == 1.0
