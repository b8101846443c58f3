"""A policy guides the search: it drives the cars, and its values say which of them go on."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from tm_torchrl.agents import make_agent
from tm_torchrl.agents.agent import Agent
from tm_torchrl.agents.guided_search import POLICY, Guidance, GuidedSearch, ValueAlong
from tm_torchrl.commands import optimize
from tm_torchrl.settings import compose_settings
from tm_torchrl.sim.search import replay_lap
from tm_torchrl.tracks import blocks
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.actions import FORWARD
from tm_torchrl.world.end_cause import EndCause
from tm_torchrl.world.input_scripts import read_script

TINY = ["objective.network.hidden_sizes=[8,8]", "objective.network.head_size=8", "env.track=oval", "device=cpu"]
TRACK = blocks("SSSSS", name="short")
SLOW = np.tile(np.array([FORWARD, 3], np.int8), 200)  # gas half of the time
LEFT = 1


def agent_of(*settings: str) -> Agent:
    torch.manual_seed(0)
    return make_agent(compose_settings([*TINY, *settings]))


class Indifferent:
    """Guidance that prefers nothing, of a policy that gives gas half of the time."""

    def __init__(self) -> None:
        self.agent = agent_of()
        self.task = self.agent.task
        self.reward_per_m = 0.01

    def __call__(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.zeros(len(observation), 12)
        return logits, torch.zeros(len(observation))

    def lap(self, track: object) -> object:
        return replay_lap(TRACK, SLOW)


def test_values_over_the_temperature_are_logits_and_the_best_is_the_value_of_the_place() -> None:
    guidance = Guidance(agent_of("objective=qrdqn"), temperature=0.5)
    observation = torch.randn(3, 184)
    values = guidance.agent.quantiles(observation).mean(1)
    logits, value = guidance(observation)
    assert torch.allclose(logits, values / 0.5)
    assert torch.equal(value, values.max(-1).values)


def test_a_policy_network_gives_its_own_logits_and_value() -> None:
    guidance = Guidance(agent_of("algorithm=ppo"))
    observation = torch.randn(3, 184)
    logits, value = guidance.agent.actor.network(observation)
    found = guidance(observation)
    assert torch.equal(found[0], logits) and torch.equal(found[1], value[:, 0])


def test_the_score_is_in_metres() -> None:
    """A metre pays 0.02 here: a value that is 0.3 higher is worth 15 m, so the car 10 m behind leads by 5 m."""
    guidance = Guidance(agent_of("env.reward.progress_per_m=0.02"))
    search = GuidedSearch(TRACK, guidance, num_cars=160)
    search.tracker.reset(search.world.reset(), torch.ones(160, dtype=torch.bool))
    search.tracker["progress_m"][3:5] = torch.tensor([100.0, 90.0])
    cars = torch.tensor([3, 4])
    with patch.object(Guidance, "__call__", lambda self, observation: (torch.ones(2, 12), torch.tensor([0.0, 0.3]))):
        assert search._score(cars).tolist() == pytest.approx([100.0, 105.0])


def test_values_are_compared_with_those_of_the_best_lap_at_the_same_place() -> None:
    guidance = Guidance(agent_of())
    lap = replay_lap(TRACK, SLOW)
    assert lap is not None
    search = GuidedSearch(TRACK, guidance, num_cars=160)
    search._baseline = ValueAlong(TRACK, guidance, lap)
    search.tracker.reset(search.world.reset(), torch.ones(160, dtype=torch.bool))
    for action in torch.from_numpy(lap.actions[:60].astype(np.int64)).split(1):
        search.world.step(action.expand(160))
        search.tracker.update(action.expand(160))
    metres = search.tracker["progress_m"][:1]
    assert search._score(torch.tensor([0])).tolist() == pytest.approx(metres.tolist(), abs=1e-3)
    between = (search._baseline._progress[40:42].mean(), search._baseline._values[40:42].mean())
    assert search._baseline(between[0].view(1)).item() == pytest.approx(between[1].item(), abs=1e-5)


def test_a_reward_without_metres_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^policy: its reward pays no metres"):
        Guidance(agent_of("env.reward.progress_per_m=0"))


def test_the_policy_drives_where_the_plan_leaves_it_to() -> None:
    """Every second car is the policy's, which steers left with probability 3/4; the others keep to their plan."""
    search = GuidedSearch(TRACK, Guidance(agent_of()), num_cars=4000)
    search.tracker.reset(search.world.reset(), torch.ones(4000, dtype=torch.bool))
    search.world.step(torch.arange(4000) % 12)  # so that cars see different things
    logits = torch.full((2000, 12), -1e9)
    logits[:, FORWARD], logits[:, LEFT] = math.log(0.25), math.log(0.75)
    planned = torch.tensor([POLICY, 7]).repeat(2000)
    seen = []

    def guide(self: Guidance, observation: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(observation)
        return logits, logits[:, 0]

    with patch.object(Guidance, "__call__", guide):
        chosen = search._choose(planned)
    assert torch.equal(seen[0], search._sensors.write()[::2])
    assert (chosen[1::2] == 7).all()
    assert (chosen[::2] == LEFT).float().mean().item() == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("tried", [0.0, 0.25, 1.0])
def test_a_share_of_the_cars_tries_one_random_action_for_a_moment(tried: float) -> None:
    search = GuidedSearch(TRACK, Guidance(agent_of()), num_cars=4000, tried=tried)
    plans = search._draw_plans(torch.zeros(4000, dtype=torch.int64), 20)
    length = (plans != POLICY).sum(1)
    assert (length > 0).float().mean().item() == pytest.approx(tried, abs=0.03)
    begins, actions = set(), set()
    for plan in plans[length > 0]:
        steps = torch.nonzero(plan != POLICY).view(-1)
        assert steps.max() - steps.min() == len(steps) - 1  # without a gap
        assert len(plan[steps].unique()) == 1
        begins.add(int(steps[0]))
        actions.add(int(plan[steps[0]]))
    if tried:
        assert set(length.tolist()) - {0} == {1, 2, 3, 4}
        assert begins == set(range(20)) and actions == set(range(12))


def test_a_share_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="tried=2"):
        GuidedSearch(TRACK, Guidance(agent_of()), tried=2)


@pytest.mark.parametrize("hold", [5, 400])  # 400 steps are longer than a lap
def test_a_guided_pass_finds_the_lap_that_was_driven_and_depends_on_the_seed_alone(hold: int) -> None:
    guidance = Guidance(agent_of("algorithm=ppo"))
    searches = [GuidedSearch(TRACK, guidance, num_cars=160, seed=1) for _ in range(2)]
    best = replay_lap(TRACK, np.tile(np.array([FORWARD, 3, 3], np.int8), 200))
    lap, again = (search.run_pass(best, hold=hold) for search in searches)
    assert lap is not None and again is not None
    assert np.array_equal(lap.actions, again.actions)
    finished = searches[0].tracker["end_cause"] == EndCause.FINISHED
    assert lap.time_s == searches[0].tracker["race_time_ms"][finished].min().item() / 1000.0


@pytest.mark.parametrize("objective", ["iqn", "fqf"])
def test_a_pass_whose_cars_all_stop_finds_nothing(objective: str) -> None:
    search = GuidedSearch(TRACK, Guidance(agent_of(f"objective={objective}")), num_cars=160)
    with patch.object(GuidedSearch, "_choose", lambda self, planned: torch.full_like(planned, 3)):
        assert search.run_pass(None) is None


def test_a_pass_in_which_no_car_is_the_policys() -> None:
    lap = replay_lap(TRACK, SLOW)
    search = GuidedSearch(TRACK, Guidance(agent_of("objective=iqn")), num_cars=160)
    faster = search.run_pass(lap, guided=1.0)
    assert lap is not None and faster is not None and faster.time_s < lap.time_s


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["env=gym", "env.name=CartPole-v1"], "must be one of env=trackmania"),
        (["env.pixels=true", "network=classic"], "no camera; use a run of floats"),
        (["env.action_block=5", "env.num_previous_actions=25"], "decides blocks of 5 actions"),
        (["objective.network.core=gru", "replay=sequences"], "has memory"),
        (["transforms=stack_frames", "env.pixels=true", "network=classic"], "no camera"),
    ],
)
def test_runs_that_cannot_guide_are_refused_by_name(settings: list[str], message: str) -> None:
    tiny = [each for each in TINY if settings[0] != "env=gym" or not each.startswith("env.")]
    with pytest.raises(ValueError, match=f"^policy: .*{message}"):
        Guidance(make_agent(compose_settings([*tiny, *settings])))


def run_command(*words: object) -> None:
    with patch("sys.argv", ["optimize", *map(str, words)]):
        optimize.main()


def test_policy_alone_and_policy_with_search_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TRACK.save(tmp_path / "short.npz")
    words = ["short.npz", "--minutes", 1e-6, "--cars", 640]
    with patch.object(optimize, "guidance_of", lambda run, which, trust: Indifferent()):
        run_command(*words, "--policy", "RUN")
        alone_s = Indifferent().lap(TRACK).time_s  # type: ignore[attr-defined]
        shown = capsys.readouterr().out
        assert f"short: policy alone {alone_s:.2f} s" in shown
        saved = json.loads(Path("runs/laps/short-with-policy.json").read_text())
        assert saved["found_by"] == "policy with search"
        assert saved["policies"][0].startswith("RUN (best, ")
        assert saved["policies"][0].endswith(f"alone {alone_s:.2f} s)")
        assert f"short: {saved['time_s']:.2f} s by policy with search" in shown
        script = Path("runs/laps/short-with-policy.inputs")
        assert script.read_text().startswith(f"# {saved['time_s']:.2f} s on short by policy with search, RUN (")
        lap = replay_lap(TRACK, read_script(script))
        assert lap is not None and lap.time_s == saved["time_s"] < alone_s
        run_command(*words)
        assert "s by search alone" in capsys.readouterr().out
        assert json.loads(Path("runs/laps/short.json").read_text())["policies"] == []
        run_command(*words, "--out", "runs/laps/short-with-policy.json")
        assert "s by policy with search" in capsys.readouterr().out


def test_a_built_in_track_is_compared_with_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    medals = medals_of("oval")
    assert medals is not None
    run_command("oval", "--minutes", 1e-6, "--cars", 80)  # begins with the record
    saved = json.loads(Path("runs/laps/oval.json").read_text())
    assert saved["gains"][0] == [medals.record.cpu_minutes, medals.record.time_s]
    assert saved["found_by"] == medals.record.found_by
    assert f"oval: the record is {medals.record.time_s:.2f} s" in capsys.readouterr().out
    slower = dataclasses.replace(medals, record=dataclasses.replace(medals.record, time_s=99.0))
    with patch.object(optimize, "medals_of", lambda name: slower):
        run_command("oval", "--minutes", 1e-6, "--cars", 80)
    assert "oval: faster than the record of 99.00 s" in capsys.readouterr().out


def test_files_that_cannot_be_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lap.json"
    for text in ("[]", "{}", '{"track": "oval", "cpu_minutes": 0, "passes": 0, "gains": [[1]], "actions": "!"}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit, match="is no file of this script"):
            optimize.Journal(path, "oval")
    with pytest.raises(SystemExit, match=r"error: .*directory|error: .*denied"):
        optimize.Journal(tmp_path, "oval")
    journal = optimize.Journal(path / "inside.json", "short")
    with pytest.raises(SystemExit, match="error: --out"):
        journal.add(None, 1.0)
    monkeypatch.setattr("sys.argv", ["optimize", "oval", "--out", str(path / "inside.json")])
    with pytest.raises(SystemExit, match="error: "):
        optimize.main()
    monkeypatch.setattr("sys.argv", ["optimize", "oval", "--out", "lap.inputs"])
    with pytest.raises(SystemExit, match=r"--out lap\.inputs: must be a \.json file"):
        optimize.main()


def test_a_lap_that_the_policy_drives_alone_is_said_to_be_that(tmp_path: Path) -> None:
    laps = [optimize.Lap(time_s, SLOW[:40]) for time_s in (30.0, 31.0, 29.0, 28.5)]
    journal = optimize.Journal(tmp_path / "lap.json", "short", policy="RUN\nof mine")
    told = []
    for lap, act in zip(
        laps, (journal.offer, journal.offer, journal.offer, lambda lap: journal.add(lap, 1.0)), strict=True
    ):
        act(lap)
        saved = json.loads(journal.path.read_text())
        told.append((saved["time_s"], saved["found_by"]))
    assert told == [*[(30.0, "policy alone")] * 2, (29.0, "policy alone"), (28.5, "policy with search")]
    assert journal.script.read_text().splitlines()[0] == "# 28.50 s on short by policy with search, RUN of mine"
    assert len(read_script(journal.script)) == 39  # the last step has no key
    journal = optimize.Journal(tmp_path / "other.json", "short")
    journal.found_by = "policy alone"  # as a record can be
    journal.add(laps[0], 1.0)
    assert journal.found_by == "policy with search"
