"""Acting: repeatable in evaluation, drawn while exploring, risk, specs, collectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import Categorical, Composite, MultiCategorical, OneHot
from torchrl.envs import ExplorationType, GymEnv, set_exploration_type
from torchrl.modules import EGreedyModule, QValueModule

from tests.modules.quantiles.test_network import every_network, small
from tm_torchrl.modules import (
    CPW,
    CVaR,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    Power,
    QuantileActor,
    QuantileModule,
    QuantileNetwork,
    RiskDistortion,
    StratifiedFractions,
    Wang,
)
from tm_torchrl.modules.quantiles.fractions import midpoints


def states(*shape: int) -> TensorDict:
    return TensorDict({"observation": torch.randn(*shape, 4, generator=torch.Generator().manual_seed(0))}, shape)


class Square(nn.Module):
    """A head whose first action's value is fraction^2 and whose second's is fraction / 2."""

    def __init__(self, *, takes_fractions: bool, num_fractions: int) -> None:
        super().__init__()
        self.takes_fractions = takes_fractions
        self.num_fractions = num_fractions
        self.register_buffer("fractions", midpoints(num_fractions))

    def forward(self, features: Tensor, fractions: Tensor) -> Tensor:
        return torch.stack([fractions**2, fractions / 2], -1)


def square_actor(distortion: RiskDistortion | None, *, takes_fractions: bool, num_fractions: int) -> QuantileActor:
    head = Square(takes_fractions=takes_fractions, num_fractions=num_fractions)
    source = StratifiedFractions() if takes_fractions else None
    network = QuantileNetwork(nn.Identity(), head, source=source, num_fractions=num_fractions)
    return QuantileActor(network, spec=Categorical(2), distortion=distortion)


@every_network
def test_acts_as_the_network_says(network_class: type[QuantileNetwork]) -> None:
    network = small(network_class)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        found = QuantileActor(network, spec=Categorical(3))(states(2, 5))
    fractions = midpoints(6).expand(10, 6) if network.takes_fractions and network_class is not MLPFQFNetwork else None
    mean = network.quantiles(states(10)["observation"], fractions=fractions).mean().reshape(2, 5, 3)
    assert torch.allclose(found["action_value"], mean, rtol=1e-5, atol=1e-6)
    assert torch.equal(found["action"], mean.argmax(-1))
    assert torch.equal(found["chosen_action_value"], found["action_value"].max(-1, keepdim=True).values)


@pytest.mark.parametrize("kind", [ExplorationType.DETERMINISTIC, ExplorationType.RANDOM])
@every_network
def test_evaluation_repeats_and_exploration_draws_fractions(
    network_class: type[QuantileNetwork], kind: ExplorationType
) -> None:
    actor = QuantileActor(small(network_class), spec=Categorical(3))
    with set_exploration_type(kind):
        first, second = actor(states(5)), actor(states(5))
    draws = kind is ExplorationType.RANDOM and isinstance(actor.quantile_module.network.source, StratifiedFractions)
    assert (first["action_value"] != second["action_value"]).all() == draws


@pytest.mark.parametrize("takes_fractions", [True, False])
def test_cvar_by_hand(takes_fractions: bool) -> None:
    # The mean over all of fraction^2 is 1/3, of fraction / 2 1/4; over the worst half 1/12 and 1/8: the choice changes.
    # With n parts the midpoint rule falls short of the first by (1/n)^2 / 12, or a quarter of it over half of them.
    n = 16
    error = (1 / n) ** 2 / 12
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        neutral = square_actor(None, takes_fractions=takes_fractions, num_fractions=n)(states(1))
        averse = square_actor(CVaR(0.5), takes_fractions=takes_fractions, num_fractions=n)(states(1))
    assert neutral["action_value"][0].tolist() == pytest.approx([1 / 3 - error, 1 / 4], rel=1e-5)
    error_of_half = error / 4 if takes_fractions else error
    assert averse["action_value"][0].tolist() == pytest.approx([1 / 12 - error_of_half, 1 / 8], rel=1e-5)
    assert (neutral["action"].item(), averse["action"].item()) == (0, 1)


@pytest.mark.parametrize(
    "distortion",
    [CVaR(0.3), Wang(-0.75), Wang(0.75), CPW(0.71), Power(-2.0), Power(2.0)],
    ids=lambda d: type(d).__name__,
)
def test_distortions_agree_for_implicit_and_fixed_networks(distortion: RiskDistortion) -> None:
    found = []
    for takes_fractions in (True, False):
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            found.append(square_actor(distortion, takes_fractions=takes_fractions, num_fractions=4000)(states(1)))
    assert found[0]["action_value"][0].tolist() == pytest.approx(found[1]["action_value"][0].tolist(), rel=1e-3)


def test_distortion_while_exploring() -> None:
    actor = square_actor(CVaR(0.01), takes_fractions=True, num_fractions=8)
    with set_exploration_type(ExplorationType.RANDOM):
        found = actor(states(100))
    assert float(found["action_value"][:, 1].max()) < 0.01 / 2
    assert len(found["action_value"][:, 0].unique()) > 50


def test_distortion_of_proposed_fractions() -> None:
    network = small(MLPFQFNetwork)
    network.source.logits.weight.data.mul_(100)
    found = QuantileActor(network, spec=Categorical(3), distortion=CVaR(0.4))(states(5))
    quantiles = network.quantiles(states(5)["observation"])
    weights = (quantiles.edges / 0.4).clamp(max=1).diff()
    expected = sum(quantiles.values[:, i] * weights[:, i : i + 1] for i in range(6))
    assert torch.allclose(found["action_value"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "one"),
    [
        (Categorical(3), Categorical(3)),
        (Categorical(3, shape=(7,)), Categorical(3)),
        (OneHot(3), OneHot(3)),
        (OneHot(3, shape=(7, 3)), OneHot(3)),
        (Composite(action=Categorical(3)), Categorical(3)),
        (Composite(action=OneHot(3, shape=(7, 3)), shape=(7,)), OneHot(3)),
        (Categorical(3, shape=(2,)), Categorical(3, shape=(2,))),
        (Categorical(3, shape=(7, 2)), Categorical(3, shape=(2,))),
        (MultiCategorical([3, 3]), Categorical(3, shape=(2,))),
        (MultiCategorical([3, 3], shape=(7, 2)), Categorical(3, shape=(2,))),
        (OneHot(3, shape=(2, 3)), OneHot(3, shape=(2, 3))),
        (OneHot(3, shape=(7, 2, 3)), OneHot(3, shape=(2, 3))),
    ],
    ids=str,
)
def test_specs_of_batches_and_blocks(spec: Any, one: Any) -> None:
    is_one_hot = isinstance(one, OneHot)
    slots = tuple(one.shape[: one.ndim - is_one_hot])
    actor = QuantileActor(small(MLPQRNetwork, num_slots=slots[0] if slots else None), spec=spec)
    found = actor(states(7))
    assert actor.action_space == ("one_hot" if is_one_hot else "categorical")
    assert actor.spec["action"] == one
    assert found["action"].shape == (7, *one.shape)
    assert found["action_value"].shape == (7, *slots, 3)
    index = found["action"].argmax(-1) if is_one_hot else found["action"]
    assert torch.equal(index, found["action_value"].argmax(-1))


@pytest.mark.parametrize("num_actions", [2, 4])
def test_what_shows_in_the_first_call(num_actions: int) -> None:
    """A network with fewer actions than the environment would silently never take the last ones."""
    actor = QuantileActor(MLPIQNetwork(4, num_actions), spec=Categorical(3))
    with pytest.raises(ValueError, match=rf"{num_actions} actions.*num_actions=3"):
        actor(states(5))
    with pytest.raises(KeyError, match=r"no 'observation' .* pixels"):
        actor(TensorDict({"pixels": torch.zeros(5, 4)}, [5]))
    with pytest.raises(TypeError, match="network=Linear"):
        QuantileModule(nn.Linear(4, 3))


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_greedy_of_torchrl_behind_it(epsilon: float) -> None:
    torch.manual_seed(0)
    actor = QuantileActor(small(MLPQRNetwork), spec=Categorical(3, shape=(3000,)))
    policy = TensorDictSequential(
        actor, EGreedyModule(Categorical(3, shape=(3000,)), eps_init=epsilon, eps_end=epsilon)
    )
    with set_exploration_type(ExplorationType.RANDOM):
        found = policy(states(3000))
    if epsilon == 0:
        assert torch.equal(found["action"], found["action_value"].argmax(-1))
    else:
        counts = torch.bincount(found["action"], minlength=3)
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 13.8  # 2 degrees of freedom: exceeded once in 1000 seeds


def test_module_reads_fractions_and_observations_by_name() -> None:
    network = small(MLPIQNetwork)
    module = QuantileModule(
        network, in_keys=[("agent", "seen")], quantile_values_key=("out", "z"), fractions_key="taus"
    )
    fractions = torch.rand(2, 5, 9)
    observation = states(2, 5)["observation"]
    found = module(TensorDict({"agent": {"seen": observation}, "taus": fractions}, [2, 5]))
    expected = network.quantiles(observation.reshape(10, 4), fractions=fractions.reshape(10, 9)).values
    assert torch.equal(found["out", "z"], expected.reshape(2, 5, 9, 3))


@pytest.mark.parametrize("is_categorical", [False, True])
def test_collector_with_cartpole(is_categorical: bool) -> None:
    env = GymEnv("CartPole-v1", categorical_action_encoding=is_categorical)
    actor = QuantileActor(MLPIQNetwork(4, 2, hidden_sizes=(16,), head_size=8), spec=env.action_spec)
    collector = Collector(env, actor, frames_per_batch=40, total_frames=80, auto_register_policy_transforms=False)
    batches = [batch.clone() for batch in collector]
    collector.shutdown()
    assert [batch.batch_size.numel() for batch in batches] == [40, 40]
    for batch in batches:
        index = batch["action"] if is_categorical else batch["action"].argmax(-1)
        assert torch.equal(index, batch["action_value"].argmax(-1))


@every_network
@pytest.mark.parametrize("num_slots", [None, 2])
@pytest.mark.parametrize("one_hot", [False, True])
def test_masked_actions_are_never_greedy(
    network_class: type[QuantileNetwork], num_slots: int | None, one_hot: bool
) -> None:
    network, slots = small(network_class, num_slots=num_slots), () if num_slots is None else (num_slots,)
    spec = OneHot(3, shape=(*slots, 3)) if one_hot else Categorical(3, shape=slots)
    free = QuantileActor(network, spec=spec)(states(4, 5))
    mask = torch.nn.functional.one_hot(free["action_value"].argmax(-1), 3) == 0  # all but the greedy one
    actor = QuantileActor(network, spec=spec, action_mask_key=("agent", "mask"))
    found = actor(states(4, 5).set(("agent", "mask"), mask))
    control = QValueModule("one_hot" if one_hot else "categorical", action_mask_key="mask")
    expected = control(TensorDict({"action_value": free["action_value"], "mask": mask}, [4, 5]))
    for key in actor.out_keys:
        assert torch.equal(found[key], expected[key])
    assert mask.gather(-1, found["action_value"].argmax(-1, keepdim=True)).all()
    assert actor.in_keys == ["observation", ("agent", "mask")]
    with pytest.raises(ValueError, match=r"mask.* shape"):
        actor(states(4, 5).set(("agent", "mask"), mask[..., :1]))
    with pytest.raises(KeyError, match="mask"):
        actor(states(4, 5))
