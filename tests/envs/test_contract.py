"""Every face of the environment with TorchRL's checks, transforms and collectors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torchrl.collectors import AsyncBatchedCollector, Collector, MultiAsyncCollector
from torchrl.envs import (
    AsyncEnvPool,
    CatFrames,
    Compose,
    EnvBase,
    RewardSum,
    StepCounter,
    ToTensorImage,
    TransformedEnv,
)
from torchrl.envs.utils import check_env_specs
from torchrl.record import PixelRenderTransform

from tests.envs.faces import FACES, batched, gym_single, gym_vector, single

Face = Callable[..., EnvBase]
every_face = pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))


def weave(step_count: torch.Tensor) -> torch.Tensor:
    """A policy without randomness: the action follows from the number of steps played."""
    return (7 * step_count + 1).squeeze(-1) % 12


WEAVE = TensorDictModule(weave, in_keys=["step_count"], out_keys=["action"])


def stack(env: EnvBase) -> TransformedEnv:
    frames = CatFrames(N=2, dim=-1, in_keys=["observation"], out_keys=["stacked"])
    return TransformedEnv(env, Compose(RewardSum(), StepCounter(), frames))


def play(env: EnvBase, data: TensorDictBase, num_steps: int = 20) -> TensorDictBase:
    """Steps ``[num_steps, car]``, with resets in between."""
    steps = []
    for i in range(num_steps):
        step, data = env.step_and_maybe_reset(data.set("action", torch.full(env.action_spec.shape, (7 * i + 1) % 12)))
        steps.append(step.select("observation", "next").clone())
    return torch.stack(steps).reshape(num_steps, env.numel())


@every_face
def test_specs_hold_behind_transforms(face: Face) -> None:
    check_env_specs(stack(face()), seed=0)


@every_face
def test_collectors_and_transforms_see_episodes(face: Face) -> None:
    env = stack(face())
    num = env.numel()
    frames = {"frames_per_batch": 30 * num, "total_frames": 60 * num}
    collector = Collector(env, WEAVE, auto_register_policy_transforms=False, **frames)
    steps = torch.cat([batch.reshape(num, 30) for batch in collector], dim=1)
    assert (steps["next", "done"].sum(1) >= 2).all()
    for car in steps:
        count, total, before = 0, 0.0, car["observation"][0]
        for step in car:
            before = step["observation"] if count == 0 else before
            assert step["step_count"] == count
            assert torch.equal(step["stacked"], torch.cat((before, step["observation"])))
            count, total, before = count + 1, total + step["next", "reward"].item(), step["observation"]
            assert step["next", "step_count"] == count
            assert step["next", "episode_reward"].item() == pytest.approx(total, abs=1e-4)
            assert torch.equal(step["next", "stacked"], torch.cat((before, step["next", "observation"])))
            if step["next", "done"]:
                count, total = 0, 0.0


def test_a_seed_means_the_same_to_every_face() -> None:
    played = []
    for name, face in FACES.items():
        env = face()
        env.set_seed(3)
        if "gym" not in name:
            env.reset()  # GymWrapper resets when it is seeded
        first_car = play(env, env.reset())[:, 0]
        keys = ("observation", *(("next", key) for key in ("observation", "reward", "done", "terminated", "truncated")))
        played.append(first_car.select(*keys))
    assert played[0]["next", "done"].any()
    assert all((other == played[0]).all() for other in played[1:])


@every_face
def test_without_a_seed_environments_differ(face: Face) -> None:
    assert not torch.equal(face().reset()["observation"], face().reset()["observation"])


@every_face
@pytest.mark.parametrize("kind", ["deepcopy", "pickle"])
def test_a_copy_continues_bit_for_bit(face: Face, kind: str) -> None:
    env = face()
    env.set_seed(1)
    data = env.reset()
    for _ in range(3):
        data = env.step_mdp(env.rand_step(data))
    same = copy.deepcopy(env) if kind == "deepcopy" else pickle.loads(pickle.dumps(env))
    first = play(env, data.clone())
    assert first["next", "done"].any()
    assert (first == play(same, data.clone())).all()


class Stacked:
    """Makes an environment behind transforms; a class, so that it can be sent to a worker process."""

    def __init__(self, face: Face) -> None:
        self.face = face

    def __call__(self) -> EnvBase:
        return stack(self.face())


def test_a_collector_of_several_processes_takes_several_faces() -> None:
    makers = [Stacked(face) for face in (single, gym_vector)]
    collector = MultiAsyncCollector(makers, WEAVE, frames_per_batch=8, total_frames=8_000)
    shapes = set()
    try:
        for batch in collector:
            assert batch["stacked"].shape[-1] == 2 * 184
            shapes.add(batch.shape)
            if len(shapes) == 2:  # on a busy machine one of the two may be far ahead
                break
    finally:
        collector.shutdown()
    assert shapes == {(2, 4), (8,)}


def test_one_car_in_asynchronous_pools() -> None:
    pool = AsyncEnvPool([single, single], backend="threading")
    try:
        assert pool.rollout(3)["next", "observation"].shape == (2, 3, 184)
    finally:
        pool.close()
    collector = AsyncBatchedCollector(
        [Stacked(single)] * 2, policy=WEAVE, frames_per_batch=20, total_frames=40, env_backend="threading"
    )
    try:
        assert [batch.numel() for batch in collector] == [20, 20]
    finally:
        collector.shutdown()


@pytest.mark.parametrize("face", [batched, single])
def test_pictures(face: Face) -> None:
    env = TransformedEnv(face(), PixelRenderTransform(out_keys=["picture"]))
    check_env_specs(env)
    picture = env.rollout(2)["next", "picture"]
    assert picture.shape == (*env.batch_size, 2, 270, 480, 3) and picture.dtype == torch.uint8
    assert picture.float().std() > 5
    scaled = TransformedEnv(face(pixels=True), ToTensorImage(shape_tolerant=True)).reset()["pixels"]
    assert scaled.shape == (*env.batch_size, 1, 64, 64) and 0.0 < scaled.max() <= 1.0


def test_constants_normalise_the_observation() -> None:
    env = batched(seed=0)
    torch.manual_seed(0)
    observation = env.rollout(5)["observation"]
    scaled = (observation - env.observation_mean) / env.observation_scale
    assert observation.abs().max() > 500 > 10 > scaled.abs().max()
    assert gym_single().unwrapped.observation_mean.tolist() == env.observation_mean.tolist()
