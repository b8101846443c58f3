"""Exploration: how often, which actions count as greedy, blocks, one-hot actions, and none in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import pytest
import torch
import torchrl
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torchrl.data import Categorical, MultiCategorical
from torchrl.envs import ExplorationType, set_exploration_type

from tests.modules.quantiles.test_network import small
from tm_torchrl.modules import (
    Boltzmann,
    EpsilonGreedy,
    MLPQRNetwork,
    NoisyExploration,
    NoisyLinear,
    PerturbedValues,
    QuantileActor,
    reset_noise,
)
from tm_torchrl.modules.carried import carried_keys
from tm_torchrl.modules.layers.noisy import row_noise

NUM = 20_000
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27}  # chi-square, exceeded once in 1000 seeds


def acted(value: list[float], *, slots: tuple[int, ...] = (), is_one_hot: bool = False) -> TensorDict:
    """The output of a greedy actor for states with these values."""
    values = torch.tensor(value).expand(NUM, *slots, len(value)).clone()
    action = values.argmax(-1)
    return TensorDict({"action_value": values, "action": one_hot(action, len(value)) if is_one_hot else action}, [NUM])


def explored(module: Callable[[TensorDict], TensorDict], batch: TensorDict, seed: int = 0) -> TensorDict:
    torch.manual_seed(seed)
    with set_exploration_type(ExplorationType.RANDOM):
        return module(batch.clone())


def noisy_step(policy: NoisyExploration, batch: TensorDict, seed: int = 0) -> tuple[TensorDict, Tensor]:
    """What the policy writes, and the noisy values by which it acts."""
    values: list[Tensor] = []
    hook = policy.actor.register_forward_hook(lambda _module, _inputs, found: values.append(found["action_value"]))
    found = explored(policy, batch, seed)
    hook.remove()
    return found, values[0]


def assert_law(action: Tensor, probabilities: list[float]) -> None:
    expected = torch.tensor(probabilities) * action.numel()
    counts = torch.bincount(action.flatten(), minlength=len(probabilities))
    assert float(((counts - expected) ** 2 / expected).sum()) < CRITICAL[len(probabilities) - 1]


VALUES = [0.0, 0.02, 0.01]
SOFTMAX = torch.softmax(torch.tensor(VALUES) / 0.02, 0).tolist()
# Of two values 0.01 apart with noise of deviation 0.01 each the lower one wins with probability Phi(-1 / sqrt 2).
UPSET = NormalDist().cdf(-1 / 2**0.5)


@pytest.mark.parametrize(
    ("module", "value", "probabilities"),
    [
        (EpsilonGreedy(0.3), [0.0, 1.0, 0.5, -1.0], [0.075, 0.775, 0.075, 0.075]),
        (EpsilonGreedy(1.0), [0.0, 1.0, 0.5, -1.0], [0.25] * 4),
        (Boltzmann(0.02), VALUES, SOFTMAX),
        (Boltzmann(0.02, epsilon=0.5), VALUES, [p / 2 + (i == 1) / 2 for i, p in enumerate(SOFTMAX)]),
        (PerturbedValues(1.0), [0.0, 0.01], [UPSET, 1 - UPSET]),
        (PerturbedValues(0.4, scale=0.01), [0.0, 0.01], [0.4 * UPSET, 1 - 0.4 * UPSET]),
        (
            TensorDictSequential(PerturbedValues(0.4), EpsilonGreedy(0.3)),
            [0.0, 0.01],
            [0.7 * 0.4 * UPSET + 0.15, 1 - 0.7 * 0.4 * UPSET - 0.15],
        ),
    ],
)
@pytest.mark.parametrize("slots", [(), (2,)])
def test_law(
    module: TensorDictModuleBase, value: list[float], probabilities: list[float], slots: tuple[int, ...]
) -> None:
    assert_law(explored(module, acted(value, slots=slots))["action"], probabilities)


MODULES = [EpsilonGreedy, PerturbedValues, lambda epsilon, **o: Boltzmann(0.1, epsilon=epsilon, **o)]
every_module = pytest.mark.parametrize("make", MODULES, ids=["EpsilonGreedy", "PerturbedValues", "Boltzmann"])
CLOSE = [0.0, 0.004, 0.002]


@every_module
@pytest.mark.parametrize("slots", [(), (3,)])
def test_is_greedy(make: Callable[..., TensorDictModuleBase], slots: tuple[int, ...]) -> None:
    batch = explored(make(0.5), acted(CLOSE, slots=slots))
    same = batch["action"] == 1
    expected = same if not slots else same[:, 0] & same[:, 1] & same[:, 2]
    assert batch["is_greedy"].shape == (NUM,)
    assert torch.equal(batch["is_greedy"], expected)
    assert 0 < int(expected.sum()) < NUM


@every_module
def test_one_hot_is_categorical(make: Callable[..., TensorDictModuleBase]) -> None:
    categorical = explored(make(0.5), acted(CLOSE))
    batch = acted(CLOSE, is_one_hot=True)
    encoded = explored(make(0.5), batch)
    assert encoded["action"].dtype == batch["action"].dtype
    assert torch.equal(encoded["action"], one_hot(categorical["action"], 3))
    assert torch.equal(encoded["is_greedy"], categorical["is_greedy"])


@pytest.mark.parametrize("per_block", [False, True])
def test_blocks_are_explored_as_one_or_slot_by_slot(per_block: bool) -> None:
    # Of 10^6 actions a random one is never the greedy one.
    values = torch.zeros(500, 2, 1000)
    values[..., 7] = 1
    batch = TensorDict({"action_value": values, "action": torch.full((500, 2), 7)}, [500])
    is_explored = explored(EpsilonGreedy(0.5, per_block=per_block), batch)["action"] != 7
    both, one = is_explored.all(-1).sum(), (is_explored[:, 0] != is_explored[:, 1]).sum()
    # Slot by slot 1/4 and 1/2 of 500, deviations 9.7 and 11.2; as one 1/2 and, where one slot drew 7, 1/1000.
    if per_block:
        assert abs(int(both) - 250) < 4 * 11.2
        assert int(one) <= 4
    else:
        assert abs(int(both) - 125) < 4 * 9.7
        assert abs(int(one) - 250) < 4 * 11.2


@every_module
@pytest.mark.parametrize("kind", [ExplorationType.DETERMINISTIC, ExplorationType.MODE, ExplorationType.MEAN])
def test_off_in_evaluation(make: Callable[..., TensorDictModuleBase], kind: ExplorationType) -> None:
    batch = acted(CLOSE)
    with set_exploration_type(kind):
        found = make(1.0)(batch.clone())
    assert torch.equal(found["action"], batch["action"])
    assert found["is_greedy"].all()


@every_module
def test_epsilon_is_a_buffer_that_can_be_set(make: Callable[..., TensorDictModuleBase]) -> None:
    module = make(0.5)
    module.epsilon = 0.0
    assert module.state_dict()["epsilon"] == 0
    assert explored(module, acted(CLOSE))["is_greedy"].all()
    module.epsilon = torch.tensor(1.0)
    assert not explored(module, acted(CLOSE))["is_greedy"].all()
    with pytest.raises(ValueError, match=r"epsilon=1\.5"):
        module.epsilon = 1.5
    with pytest.raises(ValueError, match=r"epsilon=-0\.1"):
        make(-0.1)


@every_module
def test_keys(make: Callable[..., TensorDictModuleBase]) -> None:
    module = make(0.5)
    module.set_keys(action=("a", "act"), action_value="q", is_greedy="greedy")
    batch = acted(CLOSE)
    expected = explored(make(0.5), batch)
    found = explored(module, TensorDict({"q": batch["action_value"], "a": {"act": batch["action"]}}, [NUM]))
    assert torch.equal(found["a", "act"], expected["action"])
    assert torch.equal(found["greedy"], expected["is_greedy"])


def test_noise_is_drawn_for_every_step() -> None:
    policy, batch = NoisyExploration(noisy_actor()), TensorDict({"observation": torch.ones(5, 4)}, [5])
    first, second = (noisy_step(policy, batch, seed=seed)[1] for seed in (0, 1))
    assert (first != second).all()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_an_action_that_only_noise_prefers_is_not_greedy(slots: int | None, epsilon: float) -> None:
    actor = noisy_actor(num_slots=slots)
    policy = TensorDictSequential(NoisyExploration(actor, per_car=True), EpsilonGreedy(epsilon))
    batch = TensorDict({"observation": torch.randn(NUM, 4)}, [NUM])
    found = explored(policy, batch)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        quiet = actor(batch.clone())
    assert torch.equal(found["action_value"], quiet["action_value"])
    same = found["action"] == quiet["action"]
    assert torch.equal(found["is_greedy"], same.all(-1) if slots else same)
    assert 0 < int(found["is_greedy"].sum()) < NUM


@pytest.mark.parametrize(("every", "lasts"), [(3, 3), ("episode", 7)])
def test_a_car_holds_its_noise(every: Any, lasts: int) -> None:
    policy = NoisyExploration(noisy_actor(), every=every, per_car=True)
    td, values = TensorDict({"observation": torch.ones(5, 4)}, [5]), []
    for step in range(7):
        td, noisy = noisy_step(policy, td.select("observation", *carried_keys(policy), strict=False), seed=step)
        values.append(noisy)
    for step in range(1, 7):
        assert torch.equal(values[step], values[step - 1]) == (step % lasts != 0)
    td["noise"][2], td["noise_steps"][2] = 0, 0  # as collectors clear them where an episode begins
    values.append(noisy_step(policy, td, seed=8)[1])
    is_new = (values[-1] != values[-2]).any(-1).tolist()
    assert is_new == [False, False, True, False, False]


def test_only_cars_with_their_own_noise_hold_it() -> None:
    with pytest.raises(ValueError, match="per_car=False"):
        NoisyExploration(noisy_actor(), every=3)


@pytest.mark.parametrize("per_car", [False, True])
def test_noise_grows_while_it_changes_nothing(per_car: bool) -> None:
    """Noise far too small to change an action doubles at every second step, and falls back after it has changed one."""
    actor = noisy_actor()
    policy = NoisyExploration(actor, patience=2, per_car=per_car)
    for layer in actor.modules():
        if isinstance(layer, NoisyLinear):
            layer.weight_sigma.data.mul_(1e-3)
            layer.bias_sigma.data.mul_(1e-3)
    batch = TensorDict({"observation": torch.randn(1, 4).expand(24, -1)}, [24])
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        quiet = actor(batch.clone())["action_value"]
    batch["unchanged_steps"] = torch.tensor([0, 2, 4, 6, *[60] * 20])  # amplitudes 1, 2, 4, 8 and 2 ** 20
    found, noisy = noisy_step(policy, batch)
    if not per_car:  # the same draw, so that in one layer the deviation has the ratio of the amplitudes
        sizes = (noisy - quiet).norm(dim=-1)
        assert (sizes[1:4] / sizes[0]).tolist() == pytest.approx([2.0, 4.0, 8.0], rel=0.05)
    assert found["unchanged_steps"][:4].tolist() == [1, 3, 5, 7]
    assert set(found["unchanged_steps"][4:].tolist()) == ({0, 61} if per_car else {0})
    assert torch.equal(found["unchanged_steps"] == 0, ~found["is_greedy"])
    assert carried_keys(policy) == ["unchanged_steps"]


def test_rows_have_a_scale_of_their_noise_by_hand() -> None:
    layer, inputs, scale = NoisyLinear(3, 2), torch.randn(2, 3), torch.tensor([1.0, 4.0])
    noise = layer.draw_factors(1).expand(2, -1)
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad(), row_noise(layer, noise, scale_B=scale):
        found = layer(inputs)
    for row in range(2):
        of_inputs, of_outputs = noise[0].split([3, 2])
        weight = layer.weight_mu + scale[row] * layer.weight_sigma * torch.outer(of_outputs, of_inputs)
        bias = layer.bias_mu + scale[row] * layer.bias_sigma * of_outputs
        assert torch.allclose(found[row], inputs[row] @ weight.T + bias, atol=1e-6)


def test_without_noise_in_evaluation() -> None:
    actor = noisy_actor()
    policy, batch = NoisyExploration(actor), TensorDict({"observation": torch.ones(5, 4)}, [5])
    noisy = noisy_step(policy, batch)[1]
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        quiet = policy(batch.clone())
        for layer in actor.modules():
            if isinstance(layer, NoisyLinear):
                layer.weight_epsilon.zero_()
                layer.bias_epsilon.zero_()
        assert torch.equal(policy(batch.clone())["action_value"], quiet["action_value"])
    assert (noisy != quiet["action_value"]).all()


@pytest.mark.parametrize(("epsilon", "mean_steps"), [(0.1, 8.0), (0.5, 3.0), (0.05, 1.5), (1.0, 4.0)])
def test_held_actions_explore_the_share_asked_for_and_last_as_long(epsilon: float, mean_steps: float) -> None:
    torch.manual_seed(0)
    explore, lanes = EpsilonGreedy(epsilon, mean_steps=mean_steps), 2_000
    # The greedy action is 0 of 101, which one draw in 101 hides; what the module wrote before is carried on.
    values = torch.eye(1, 101).expand(lanes, -1)
    td = TensorDict({}, [lanes])
    is_explored, lengths = [], []
    with set_exploration_type(ExplorationType.RANDOM):
        for step in range(300):
            td["action"], td["action_value"] = torch.zeros(lanes, dtype=torch.int64), values
            before = td.get("held_steps", torch.zeros(lanes, dtype=torch.int64))
            explore(td)
            if step >= 50:
                is_explored.append(td["action"] != 0)
                lengths.append(td["held_steps"][(before == 0) & (td["action"] != 0)] + 1)
    assert torch.stack(is_explored).float().mean().item() == pytest.approx(epsilon * 100 / 101, rel=0.05)
    assert torch.cat(lengths).float().mean().item() == pytest.approx(mean_steps, rel=0.05)


def test_a_held_action_goes_on_and_ends() -> None:
    explore = EpsilonGreedy(0.0, mean_steps=5.0)
    td = TensorDict({"held_action": torch.tensor([3, 3]), "held_steps": torch.tensor([2, 0])}, [2])
    found = []
    with set_exploration_type(ExplorationType.RANDOM):
        for _ in range(3):
            td["action"], td["action_value"] = torch.zeros(2, dtype=torch.int64), torch.eye(4)[[0, 0]]
            explore(td)
            found.append((td["action"].tolist(), td["is_greedy"].tolist()))
    assert found == [([3, 0], [False, True]), ([3, 0], [False, True]), ([0, 0], [True, True])]


def test_held_actions_fill_blocks_and_one_hot_actions() -> None:
    values = torch.zeros(6, 5, 4)
    with set_exploration_type(ExplorationType.RANDOM):
        td = TensorDict({"action": torch.zeros(6, 5, dtype=torch.int64), "action_value": values}, [6])
        EpsilonGreedy(1.0, mean_steps=2.0)(td)
        assert (td["action"] == td["held_action"].unsqueeze(1)).all()
        one_hot = torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.int64), 4)
        td = TensorDict({"action": one_hot, "action_value": values[:, 0]}, [6])
        EpsilonGreedy(1.0, mean_steps=2.0)(td)
        assert (td["action"].argmax(-1) == td["held_action"]).all()
        assert td["action"].sum(-1).eq(1).all()


def noisy_actor(**options: Any) -> QuantileActor:
    network = small(MLPQRNetwork, linear=NoisyLinear, **options)
    slots = options.get("num_slots")
    return QuantileActor(network, spec=Categorical(3) if slots is None else MultiCategorical([3] * slots))


def test_own_noise_for_each_row_by_hand() -> None:
    layer, inputs = NoisyLinear(3, 2), torch.randn(4, 5, 3)
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        layer.reset_noise(4)
        assert layer.row_noise is not None
        found = layer(inputs)
        for row, (noise_in, noise_out) in enumerate(zip(*layer.row_noise.split([3, 2], -1), strict=True)):
            weight = layer.weight_mu + layer.weight_sigma * torch.outer(noise_out, noise_in)
            bias = layer.bias_mu + layer.bias_sigma * noise_out
            assert torch.allclose(found[row], inputs[row] @ weight.T + bias, atol=1e-6)
        with pytest.raises(ValueError, match=r"inputs: 3 rows.*reset_noise\(3\)"):
            layer(inputs[:3])
        layer.reset_noise()
        assert torch.equal(layer(inputs[:3]), nn.functional.linear(inputs[:3], layer.weight, layer.bias))
    layer.reset_noise(4)
    assert torch.equal(layer(inputs), nn.functional.linear(inputs, layer.weight_mu, layer.bias_mu))


@pytest.mark.parametrize("per_car", [False, True])
@pytest.mark.parametrize("shape", [[6], [2, 3]])
def test_cars_share_noise_or_have_their_own(per_car: bool, shape: list[int]) -> None:
    policy = NoisyExploration(noisy_actor(), per_car=per_car)
    batch = TensorDict({"observation": torch.ones(*shape, 4)}, shape)
    values = noisy_step(policy, batch)[1].reshape(6, 3)
    assert len(values.unique(dim=0)) == (6 if per_car else 1)
    assert list(policy.state_dict()) == list(NoisyExploration(noisy_actor()).state_dict())


def test_the_value_output_may_stay_plain() -> None:
    plain = noisy_actor(noisy_value="hidden").quantile_module.network.head.decoder
    assert [type(layer) for layer in plain.value] == [NoisyLinear, nn.LeakyReLU, nn.Linear]
    assert [type(layer) for layer in plain.advantage] == [NoisyLinear, nn.LeakyReLU, NoisyLinear]


def test_noise_of_torchrl_is_shared() -> None:
    with pytest.raises(TypeError, match="num_rows=3"):
        reset_noise(torchrl.modules.NoisyLinear(2, 2), num_rows=3)
    with pytest.raises(ValueError, match="sigma_init=0"):
        NoisyLinear(2, 2, sigma_init=0.0)
