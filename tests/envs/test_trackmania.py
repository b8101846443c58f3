"""``TrackManiaEnv`` with TorchRL's checks, wrappers and collectors."""

from __future__ import annotations

import functools

import pytest
import torch
from torchrl.envs import SerialEnv
from torchrl.envs.utils import check_env_specs

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.rewards import Failure
from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.tracks import generate_track, load_track
from tm_torchrl.world.tracker import EndCause, Limits

make = functools.partial(TrackManiaEnv, 4, track="oval", starts=Starts(zone=0.5))
SHORT = Limits(no_progress_s=0.3)


@pytest.mark.parametrize("num_envs", [None, 1, 5])
@pytest.mark.parametrize(
    "options",
    [{}, {"pixels": True, "image_size": 32}, {"action_block": 5, "num_previous_actions": 25}],
    ids=["floats", "pixels", "blocks"],
)
def test_specs(num_envs: int | None, options: dict):
    env = TrackManiaEnv(num_envs, track="oval", **options)
    check_env_specs(env, seed=0)
    assert env.batch_size == (() if num_envs is None else (num_envs,))


def test_several_tracks():
    env = TrackManiaEnv(16, tracks=["oval", generate_track(3, length_m=600.0)], seed=1)
    check_env_specs(env)
    assert [track.name for track in env.world.tracks] == ["oval", "circuit-3"]
    assert set(env.world.track_index.tolist()) == {0, 1}


def test_inside_serial_env():
    rollout = SerialEnv(2, make).rollout(5, break_when_any_done=False)
    assert rollout["next", "observation"].shape == (2, 4, 5, 184)
    assert not torch.equal(*rollout["observation"]), "each has a seed of its own"


def test_same_seed_same_rollout():
    env = make()
    starts = []
    for seed in (5, 5, 6, None, None):
        env.set_seed(seed)
        starts.append(env.reset()["observation"])
    assert torch.equal(starts[0], starts[1])
    assert not any(torch.equal(starts[i], starts[i + 1]) for i in (1, 2, 3))


def test_partial_reset_touches_only_the_masked_cars():
    env = make()
    td = env.rollout(5, break_when_any_done=False)[:, -1]["next"].clone()
    mask = torch.tensor([[True], [False], [False], [True]])
    td["_reset"] = mask
    after = env.reset(td)
    kept = ~mask.view(-1)
    assert torch.equal(after["observation"][kept], td["observation"][kept])
    assert (after["info", "race_time_ms"] == torch.tensor([0, 250, 250, 0])).all()
    td = after.set("action", torch.zeros(4, dtype=torch.int64))
    assert (env.step(td)["next", "info", "race_time_ms"] == torch.tensor([50, 300, 300, 50])).all()


def test_a_block_of_one_action_is_that_action_held():
    held, block = make(seed=3), make(seed=3, action_block=5, num_previous_actions=25)
    a, b = held.reset(), block.reset()
    for action in (0, 0, 1, 6, 2, 0):
        a = held.step(a.set("action", torch.full((4,), action)))["next"]
        b = block.step(b.set("action", torch.full((4, 5), action)))["next"]
    assert torch.equal(held.world.rows(), block.world.rows())
    assert torch.equal(a["reward"], b["reward"])


def test_reward_is_time_and_metres():
    env = make()
    td = env.reset()
    total, start = torch.zeros(4), env.race.tracker["progress_m"].clone()
    for _ in range(20):
        td = env.step(td.set("action", torch.zeros(4, dtype=torch.int64)))["next"]
        total += td["reward"].view(-1)
    metres = env.race.tracker["progress_m"] - start
    assert total == pytest.approx((-0.06 * 20 + 0.01 * metres).numpy(), abs=1e-4)


def test_standing_still_truncates_by_no_progress_and_pays_for_it_once():
    env = TrackManiaEnv(1, track="oval", reward=[Failure(reward=-3.0)])
    td = env.reset()
    total = 0.0
    steps = 0
    while not td["done"].any() and steps < 60:
        td = env.step(td.set("action", torch.tensor([3])))["next"]
        total += td["reward"].item()
        steps += 1
    assert steps == 40
    assert total == -3.0
    assert td["truncated"].all() and not td["terminated"].any()
    assert td["info", "end_cause"].item() == EndCause.NO_PROGRESS


def test_finish_terminates_with_the_exact_time():
    env = TrackManiaEnv(1, track="oval", starts=Starts())
    td = env.reset()
    gained = 0.0
    while not td["done"].any():  # a full-throttle car scrapes round the oval
        td = env.step(td.set("action", torch.tensor([0])))["next"]
        gained += td["reward"].item()
    if not td["terminated"].any():
        pytest.skip("full throttle does not finish this oval")
    info = td["info"]
    assert info["end_cause"].item() == EndCause.FINISHED and info["is_finished"].all()
    assert info["checkpoint_times_ms"][0, -1] == info["race_time_ms"].item()
    time_ms = info["race_time_ms"].item()
    length = env.race.tracker["progress_m"].item()
    assert gained == pytest.approx(-0.0012 * time_ms + 0.01 * (length - 0.25), abs=0.02)


def test_save_and_restore():
    env = make(limits=SHORT)
    torch.manual_seed(1)
    td = env.rollout(10, break_when_any_done=False)[:, -1]["next"]
    saved = env.save()
    actions = torch.randint(12, (10, 4))

    def play() -> torch.Tensor:
        state, out = td.clone(), []
        for action in actions:
            state = env.step(state.select("observation").set("action", action))["next"]
            out.append(torch.cat([state["observation"], state["reward"]], dim=1))
        return torch.stack(out)

    first = play()
    env.restore(saved)
    assert torch.equal(first, play())


def test_returned_tensors_are_not_overwritten():
    env = make(pixels=True, image_size=16)
    td = env.reset()
    first = {key: td[key].clone() for key in ("observation", "pixels")}
    following = env.step(td.clone().set("action", torch.zeros(4, dtype=torch.int64)))["next"]
    copy = following["observation"].clone()
    env.step(following.clone().set("action", torch.zeros(4, dtype=torch.int64)))
    assert all(torch.equal(td[key], value) for key, value in first.items())
    assert torch.equal(following["observation"], copy)


def test_absurd_states_end_by_rule():
    env = TrackManiaEnv(256, track="oval", starts=Starts(zone=1.0), seed=0)
    state = env.world.save()
    generator = torch.Generator().manual_seed(0)
    state[:, :35] += torch.randn(256, 35, generator=generator) * 1000
    env.world.restore(state)
    over = torch.zeros(256, dtype=torch.bool)
    for _ in range(200):
        outcome = env.race.step(torch.randint(12, (256,), generator=generator))
        over |= outcome.terminated | outcome.truncated
        assert torch.isfinite(outcome.reward).all()
    assert over.all()


class TestBadInput:
    """Each error names the argument, and nothing has moved."""

    def test_actions(self):
        env = make()
        td = env.reset()
        before = env.world.save()
        for action, error, text in (
            (torch.tensor([0, 1, 2, 12]), ValueError, r"action holds 12"),
            (torch.tensor([0, -1, 2, 3]), ValueError, r"action holds -1"),
            (torch.tensor([0.0, float("nan"), 1.0, 2.0]), TypeError, r"action has dtype torch\.float32"),
            (torch.zeros(4, 2, dtype=torch.int64), ValueError, r"action has shape \(4, 2\)"),
        ):
            with pytest.raises(error, match=text):
                env.race.step(action)
        assert torch.equal(before, env.world.save())
        assert td["observation"].shape == (4, 184)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"num_envs": 0}, "num_envs=0"),
            ({"num_envs": 1.5}, "num_envs=1.5"),
            ({"first_car": -1}, "first_car=-1"),
            ({"first_car": 1.5}, "first_car=1.5"),
            ({"first_car": 2**40}, "first_car=1099511627776"),
            ({"device": "meta"}, "device='meta'"),
            ({"seed": -1}, "seed=-1"),
            ({"seed": 1.5}, "seed=1.5"),
            ({"action_block": 5.0}, "action_block=5.0"),
            ({"action_block": True}, "action_block=True"),
            ({"num_previous_actions": 2.5}, "num_previous_actions=2.5"),
            ({"tracks": "oval"}, "tracks='oval'"),
            ({"reward": [5]}, "reward: 5"),
            ({"limits": 5}, "limits=5"),
            ({"starts": 5}, "starts=5"),
            ({"randomisation": 5}, "randomisation=5"),
            ({"track": "ovel"}, "oval"),
            ({"track": "oval", "tracks": ["oval"]}, "^track and tracks"),
            ({"tracks": []}, r"tracks=\[\]"),
            ({"action_block": 3}, "action_block=3"),
            ({"num_previous_actions": 0}, "num_previous_actions=0"),
            ({"reward": []}, r"reward=\[\]"),
            ({"pixels": True, "image_size": 63}, "image_size.*63"),
            ({"pixels": True, "image_size": 512}, "image_size.*512"),
        ],
    )
    def test_constructor(self, options: dict, text: str):
        options = {"num_envs": 2, **options}
        with pytest.raises(ValueError, match=text):
            TrackManiaEnv(options.pop("num_envs"), **options)

    def test_world(self):
        world = Simulator(load_track("oval"), num_cars=3)
        with pytest.raises(ValueError, match="num_envs=2"):
            TrackManiaEnv(2, world=world)
        with pytest.raises(ValueError, match="pixels=True"):
            TrackManiaEnv(3, world=world, pixels=True)
        with pytest.raises(ValueError, match=r"^world: .*track"):
            TrackManiaEnv(3, world=world, track="oval")

    def test_starts(self):
        with pytest.raises(ValueError, match=r"zone \+ askew \+ off_road \+ wall \+ lap \+ lost_time sum to 1\.2"):
            Starts(zone=0.7, wall=0.5)
        with pytest.raises(ValueError, match=r"askew=-0\.1"):
            Starts(askew=-0.1)
        with pytest.raises(ValueError, match="laps='mine': must be author, record, own or a script"):
            Starts(lap=0.5, laps="mine")


def test_its_text_tells_what_it_is() -> None:
    env = TrackManiaEnv(2, track="oval", action_block=5)
    assert repr(env) == "TrackManiaEnv(batch_size=[2], tracks=[oval], pixels=False, action_block=5, device=cpu)"
    assert repr(TrackManiaEnv(None, track="oval", pixels=True)).startswith("TrackManiaEnv(batch_size=[], tracks=[oval]")
