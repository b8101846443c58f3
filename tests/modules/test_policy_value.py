"""Networks with a policy and a value: shapes, shared names, samples, and a trunk that moves to PPO from IQN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.modules import (
    MLPIQNetwork,
    PixelEncoder,
    PolicyActor,
    PolicyValueModule,
    PolicyValueNetwork,
    ResidualTrunk,
    SamplingPolicy,
)
from tm_torchrl.modules.policy_value import action_distribution

FLOATS: dict[str, Any] = {"num_inputs": 4, "num_actions": 3, "hidden_sizes": [16], "head_size": 8}
PIXELS: dict[str, Any] = {"image": PixelEncoder, "image_shape": (1, 64, 64)}
SENSES = {
    "floats": (FLOATS, ["observation"]),
    "pixels": ({**FLOATS, **PIXELS, "num_inputs": None}, ["pixels"]),
    "both": ({**FLOATS, **PIXELS, "trunk": ResidualTrunk}, ["pixels", "observation"]),
}


def states(*shape: int) -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (*shape, 1, 64, 64), dtype=torch.uint8)
    return {"pixels": pixels, "observation": torch.randn(*shape, 4)}


@pytest.mark.parametrize("senses", SENSES)
@pytest.mark.parametrize("num_slots", [None, 5])
def test_any_batch_shape_is_a_flat_batch(senses: str, num_slots: int | None) -> None:
    arguments, keys = SENSES[senses]
    network = PolicyValueNetwork(**arguments, num_slots=num_slots)
    seen = states(2, 3)
    actions = (3,) if num_slots is None else (5, 3)
    logits, value = network(*(seen[key] for key in keys))
    assert logits.shape == (2, 3, *actions) and value.shape == (2, 3, 1)
    flat_logits, flat_value = network(*(seen[key].flatten(0, 1) for key in keys))
    torch.testing.assert_close(logits.flatten(0, 1), flat_logits)
    torch.testing.assert_close(value.flatten(0, 1), flat_value)
    single, alone = network(*(seen[key][1, 2] for key in keys))
    assert single.shape == actions and alone.shape == (1,)
    torch.testing.assert_close(single, logits[1, 2])


@pytest.mark.parametrize("core", ["gru", "lstm", "mamba"])
def test_memory_acts_step_by_step_as_it_learns_from_a_sequence(core: str) -> None:
    network = PolicyValueNetwork(**FLOATS, num_slots=2, core=core)
    actor, seen = PolicyActor(network), torch.randn(2, 6, 4)
    is_init = torch.zeros(2, 6, dtype=torch.bool)
    is_init[0, 3] = True
    state, found = torch.zeros(2, network.core.state_size), []
    for t in range(6):
        entries = {"observation": seen[:, t], "memory": state, "is_init": is_init[:, t]}
        step = TensorDict(entries, [2])
        found.append(actor.logits(step))
        state = step["next", "memory"]
    logits, values = network.scan(seen, torch.zeros_like(state), is_init_BT=is_init)
    torch.testing.assert_close(logits, torch.stack(found, 1))
    assert values.shape == (2, 6, 1)
    episode = actor.with_memory(TensorDict({"observation": seen[1]}, [6]))
    torch.testing.assert_close(network.logits(seen[1], episode["memory"]), logits[1])
    with set_exploration_type(ExplorationType.RANDOM):
        sampled = SamplingPolicy(actor)(TensorDict({"observation": seen[:, 0]}, [2]))
    assert sampled["next", "memory"].shape == state.shape and not sampled["memory"].any()
    with pytest.raises(ValueError, match="network: has memory"):
        PolicyValueModule(network)


@pytest.mark.parametrize("senses", SENSES)
def test_encoder_and_trunk_move_to_it_from_a_quantile_network(senses: str) -> None:
    arguments, keys = SENSES[senses]
    source, network = MLPIQNetwork(**arguments), PolicyValueNetwork(**arguments)
    shared = {name: value for name, value in source.state_dict().items() if name.startswith(("encoder.", "trunk."))}
    assert shared
    missing, unexpected = network.load_state_dict(shared, strict=False)
    assert not unexpected and all(name.startswith(("policy.", "value.")) for name in missing)
    seen = [states(6)[key] for key in keys]
    torch.testing.assert_close(network.features(*seen), source.quantiles(*seen).features)


def test_all_actions_begin_about_equally_likely() -> None:
    probabilities = PolicyValueNetwork(4, 3)(torch.randn(64, 4))[0].softmax(-1).detach()
    assert float((probabilities - 1 / 3).abs().max()) < 0.02


def test_samples_follow_the_probabilities() -> None:
    """1/2, 3/8 and 1/8 in 20,000 samples, whose deviation is at most 71; log-probabilities are those of the samples."""
    network = PolicyValueNetwork(**FLOATS)
    with torch.no_grad():
        output: Any = network.policy.advantage[-1]
        output.weight.zero_()
        output.bias.copy_(torch.tensor([4.0, 3.0, 1.0]).log())
    policy = SamplingPolicy(PolicyActor(network))
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.RANDOM):
        drawn = policy(TensorDict({"observation": torch.randn(20_000, 4)}, [20_000]))
    counts = torch.bincount(drawn["action"], minlength=3)
    assert (counts - torch.tensor([10_000, 7_500, 2_500])).abs().max() < 4 * 71
    expected = torch.tensor([0.5, 0.375, 0.125]).log()[drawn["action"]]
    torch.testing.assert_close(drawn["action_log_prob"], expected)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert not policy(TensorDict({"observation": torch.randn(9, 4)}, [9]))["action"].any()


def test_the_log_probability_of_a_block_is_the_sum_of_its_slots() -> None:
    network = PolicyValueNetwork(**FLOATS, num_slots=5)
    policy, module = SamplingPolicy(PolicyActor(network)), PolicyValueModule(network)
    with torch.no_grad():
        network.policy.advantage[-1].weight.mul_(200.0)  # type: ignore[operator,union-attr]
        step = policy(TensorDict({"observation": torch.randn(7, 4)}, [7]))
        found = module.get_dist(step)
        torch.testing.assert_close(found.log_prob(step["action"]), step["action_log_prob"])
        each = action_distribution(network.logits(step["observation"]))
        torch.testing.assert_close(found.entropy(), each.entropy().sum(-1))
        assert step["action"].shape == (7, 5)


@pytest.mark.parametrize("option", [{"linear": "noisy"}, {"noisy_value": True}, {"value_per_slot": True}])
def test_options_of_quantile_networks_are_refused(option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"^{name}={value!r}"):
        PolicyValueNetwork(**FLOATS, **option)
