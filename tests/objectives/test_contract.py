"""The contract of TorchRL's losses, for every loss with every network and every estimator.

Keys are in ``test_keys.py``, reductions, weights and masks of samples in ``test_reductions.py``, recurrent networks in
``test_time_axis.py``, replaced parameters and ``torch.compile`` in ``test_network_pass.py``, TorchRL's trainers in
``test_trainers.py``.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch.optim.swa_utils import AveragedModel
from torchrl.data import Categorical, OneHot
from torchrl.objectives import ValueEstimators

from tests.objectives.cases import (
    COMBINATIONS,
    ESTIMATORS,
    GAMMA,
    NUM_ACTIONS,
    NUM_FRACTIONS,
    Loss,
    assert_equal,
    every_estimator,
    every_loss,
    every_network,
    full_batch,
    losses_of,
    make_batch,
    make_loss,
    small,
    targets_of,
)
from tm_torchrl.modules import (
    FractionProposal,
    MidpointFractions,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPQRNetwork,
    QuantileActor,
    QuantileNetwork,
)
from tm_torchrl.objectives import DQNLoss, FQFLoss, IQNLoss, QRDQNLoss, QuantileEstimators
from tm_torchrl.objectives.quantile_loss import QuantileLoss

LossClass = type[Loss]
NetworkClass = type[QuantileNetwork]


@every_loss
def test_dispatch_by_keyword(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    expected = losses_of(loss, batch)
    arguments = {key if isinstance(key, str) else "_".join(key): batch[key] for key in loss.in_keys}
    torch.manual_seed(7)
    outputs = loss(**arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert_equal(dict(zip(loss.out_keys, outputs, strict=True)), expected)


@every_loss
def test_state_dict(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    other = make_loss(loss_class, network_class, estimator, seed=5)
    before = list(loss.state_dict())
    expected = losses_of(loss, batch)
    assert list(loss.state_dict()) == before
    assert not torch.equal(losses_of(other, batch)["loss"], expected["loss"])
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=False))
    assert_equal(losses_of(other, batch), expected)


@every_network
def test_state_dict_before_and_after_first_use(loss_class: LossClass, network_class: NetworkClass) -> None:
    loss = loss_class(small(network_class), action_space="categorical")  # with its default estimator
    before = list(loss.state_dict())
    losses_of(loss, make_batch(5))
    assert list(loss.state_dict()) == before


def pickled(loss: Any) -> Any:
    return pickle.loads(pickle.dumps(loss))


@every_loss
@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies(
    loss_class: LossClass, network_class: NetworkClass, estimator: str, is_used: bool, copied: Callable[[Any], Any]
) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    if is_used:
        losses_of(loss, batch)
    twin = copied(loss)
    expected = losses_of(loss, batch)
    assert_equal(losses_of(twin, batch), expected)
    for parameter in [
        *twin.value_network_params.values(True, True),
        *twin.target_value_network_params.values(True, True),
    ]:
        parameter.data.mul_(1.5)
    assert not torch.equal(losses_of(twin, batch)["loss"], expected["loss"])
    assert_equal(losses_of(loss, batch), expected)


@every_loss
def test_gradient_reaches_all_online_parameters_and_nothing_else(
    loss_class: LossClass, network_class: NetworkClass, estimator: str
) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(16)
    loss(batch)["loss"].backward()
    for key, parameter in loss.value_network_params.items(True, True):
        if isinstance(parameter, torch.nn.Parameter):
            has_gradient = parameter.grad is not None and bool((parameter.grad != 0).any())
            assert has_gradient == ("source" not in key), key
    for key, value in loss.target_value_network_params.items(True, True):
        assert not value.requires_grad, key
        assert value.grad is None, key
    assert {id(p) for p in loss.parameters()} == {
        id(p) for p in loss.value_network_params.values(True, True) if isinstance(p, torch.nn.Parameter)
    }


@every_estimator
def test_gradients_of_the_two_fqf_losses(estimator: str) -> None:
    loss, batch = make_loss(FQFLoss, MLPFQFNetwork, estimator, entropy_coefficient=0.1), make_batch(16)
    loss(batch)["loss_fraction"].backward()
    reached = {name for name, p in loss.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    of_proposal = {"logits.weight", "logits.bias"}
    assert {name.split("source.")[1] for name in reached} == of_proposal
    assert {id(p) for p in loss.fraction_parameters()} == {
        id(p) for name, p in loss.named_parameters() if name in reached
    }
    both = [*loss.fraction_parameters(), *loss.quantile_parameters()]
    assert len(both) == len({id(p) for p in both}) == len(list(loss.parameters()))


def test_entropy_of_the_proposal_is_subtracted() -> None:
    batch = make_batch(5)
    plain, with_entropy = (
        losses_of(make_loss(FQFLoss, MLPFQFNetwork, reduction="none", entropy_coefficient=c), batch) for c in (0, 0.25)
    )
    loss = make_loss(FQFLoss, MLPFQFNetwork)
    online = loss.evaluate(loss.value_network_params, batch, NUM_FRACTIONS)
    parts = online.edges.diff(dim=-1)
    entropy = -(parts * parts.log()).sum(-1)
    found = plain["loss_fraction"] - with_entropy["loss_fraction"]
    assert torch.allclose(found, 0.25 * entropy.detach(), rtol=1e-5)


@every_loss
@pytest.mark.parametrize("num_slots", [None, 2])
def test_one_hot_is_categorical(
    loss_class: LossClass, network_class: NetworkClass, estimator: str, num_slots: int | None
) -> None:
    num_slots = None if loss_class is DQNLoss else num_slots  # TorchRL's loss knows no blocks
    found = []
    for is_one_hot in (False, True):
        loss = make_loss(
            loss_class,
            network_class,
            estimator,
            network_options={"num_slots": num_slots},
            action_space="one_hot" if is_one_hot else "categorical",
        )
        found.append(losses_of(loss, make_batch(5, num_slots=num_slots, is_one_hot=is_one_hot)))
    assert_equal(*found)


@pytest.mark.parametrize("is_one_hot", [False, True])
def test_action_space_of_the_actor(is_one_hot: bool) -> None:
    spec = OneHot(3) if is_one_hot else Categorical(3)
    for loss in (
        IQNLoss(QuantileActor(small(MLPIQNetwork), spec=spec)),
        IQNLoss(small(MLPIQNetwork), action_space=spec),
    ):
        assert loss.is_one_hot == is_one_hot


@every_network
@every_estimator
def test_a_block_of_one_is_a_single_action(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    single, block = (
        make_loss(loss_class, network_class, estimator, network_options={"num_slots": slots}) for slots in (None, 1)
    )
    expected = losses_of(single, make_batch(5))
    for key, value in losses_of(block, make_batch(5, num_slots=1)).items():
        assert torch.allclose(value, expected[key], rtol=1e-6, atol=0), key


@every_network
@every_estimator
def test_terminated_removes_the_bootstrap_and_truncated_does_not(
    loss_class: LossClass, network_class: NetworkClass, estimator: str
) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    running, truncated, terminated = batch.clone(), batch.clone(), batch.clone()
    for case, is_done, is_terminated in ((running, 0, 0), (truncated, 1, 0), (terminated, 1, 1)):
        case["next", "done"] = torch.full((5, 1), bool(is_done))
        case["next", "terminated"] = torch.full((5, 1), bool(is_terminated))
    assert_equal(losses_of(loss, truncated), losses_of(loss, running))
    at_end = targets_of(loss, terminated)
    reward = batch["next", "reward"]
    if estimator == "munchausen":
        bonus = at_end - reward
        assert torch.equal(at_end, at_end[:, :1].expand_as(at_end))
        assert (bonus < 0).all()
        assert (bonus >= 0.8 * -0.6 - 1e-6).all()  # alpha times the clip
    else:
        assert torch.equal(at_end, reward.expand_as(at_end))
    assert (targets_of(loss, running) != at_end).all()


@every_network
@every_estimator
def test_n_steps_discount_the_bootstrap(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    batch["next", "terminated"].zero_()
    batch["next", "reward"].zero_()
    one = targets_of(loss, batch)
    assert torch.equal(targets_of(loss, batch.clone().set("steps_to_next_obs", torch.ones(5, 1).long())), one)
    at_end = targets_of(loss, batch.clone().set(("next", "terminated"), torch.ones(5, 1, dtype=torch.bool)))
    steps = torch.tensor([1, 2, 3, 4, 5])
    found = targets_of(loss, batch.clone().set("steps_to_next_obs", steps)) - at_end
    expected = (one - at_end) * (GAMMA ** (steps - 1)).unsqueeze(-1)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    batch_of_columns = batch.clone().set("steps_to_next_obs", steps.unsqueeze(-1))
    assert torch.equal(targets_of(loss, batch_of_columns) - at_end, found)


@every_network
@every_estimator
def test_shapes_of_reward_and_done(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, columns = make_loss(loss_class, network_class, estimator), full_batch(6)
    expected = losses_of(loss, columns)
    flat = columns.clone()
    for key in ("reward", "done", "terminated"):
        flat["next", key] = flat["next", key].squeeze(-1)
    flat["steps_to_next_obs"] = flat["steps_to_next_obs"].squeeze(-1)
    flat["priority_weight"] = flat["priority_weight"].unsqueeze(-1)
    assert_equal(losses_of(loss, flat), expected)


@every_loss
@pytest.mark.parametrize("action_space", ["categorical", "one_hot"])
def test_batch_sizes(loss_class: LossClass, network_class: NetworkClass, estimator: str, action_space: str) -> None:
    """[B], [B, T], single steps, and single steps by keyword cost the same."""
    source = {"source": MidpointFractions()} if loss_class is IQNLoss else {}
    options: dict[str, Any] = {"reduction": "none", "action_space": action_space, **source}
    loss = make_loss(loss_class, network_class, estimator, **options)
    batch = make_batch(6, is_one_hot=action_space == "one_hot")
    expected = loss(batch)["loss"]
    rows, steps = batch.reshape(2, 3).clone(), list(batch.exclude("td_error").unbind(0))
    torch.testing.assert_close(loss(rows)["loss"], expected.reshape(2, 3))
    torch.testing.assert_close(rows["td_error"], batch["td_error"].reshape(2, 3, 1))
    torch.testing.assert_close(torch.stack([loss(step)["loss"] for step in steps]), expected)
    torch.testing.assert_close(torch.stack([step["td_error"] for step in steps]), batch["td_error"])
    arguments = {key if isinstance(key, str) else "_".join(key): steps[0][key] for key in loss.in_keys}
    found = loss(**arguments)
    torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, expected[0])


@pytest.mark.parametrize("name", ["td0", ValueEstimators.TD0, None])
@every_network
def test_td0_is_greedy(loss_class: LossClass, network_class: NetworkClass, name: ValueEstimators | str | None) -> None:
    loss, batch = make_loss(loss_class, network_class, "greedy"), full_batch(5)
    expected = losses_of(loss, batch)
    loss.make_value_estimator("soft").make_value_estimator(name, gamma=GAMMA)
    assert loss.value_type is QuantileEstimators.GREEDY
    assert_equal(losses_of(loss, batch), expected)
    with pytest.raises(NotImplementedError, match="GAE"):
        loss.make_value_estimator(ValueEstimators.GAE)


@every_network
@every_estimator
@pytest.mark.parametrize("num_slots", [None, 2])
def test_masked_actions_are_never_chosen(
    loss_class: LossClass, network_class: NetworkClass, estimator: str, num_slots: int | None
) -> None:
    """Raising the values of a masked action changes no target; where all actions are masked, no mask counts."""
    loss = make_loss(loss_class, network_class, estimator, network_options={"num_slots": num_slots})
    batch = make_batch(6, num_slots=num_slots)
    batch["action"] %= NUM_ACTIONS - 1  # never the masked one
    mask = (torch.arange(NUM_ACTIONS) < NUM_ACTIONS - 1).expand(*batch["action"].shape, NUM_ACTIONS)
    masked = batch.clone().set("action_mask", mask).set(("next", "action_mask"), mask)
    unmasked = batch.clone().set("action_mask", ~mask & mask).set(("next", "action_mask"), ~mask & mask)
    plain, expected = targets_of(loss, batch), targets_of(loss, masked)
    assert torch.equal(targets_of(loss, unmasked), plain)
    evaluate = loss.evaluate._evaluate

    def with_better_last_action(*arguments: Any) -> Any:
        quantiles = evaluate(*arguments)
        return quantiles._replace(values=quantiles.values + 100.0 * ~mask[0])

    loss.evaluate._evaluate = with_better_last_action
    torch.testing.assert_close(targets_of(loss, masked), expected)
    assert bool((targets_of(loss, batch) - plain).abs().amax() > 50)


def test_the_mask_of_the_actor() -> None:
    actor = QuantileActor(small(MLPIQNetwork), spec=Categorical(NUM_ACTIONS), action_mask_key="allowed")
    loss = IQNLoss(actor, source=MidpointFractions()).make_value_estimator("munchausen")
    assert loss.tensor_keys.action_mask == "allowed"
    batch = make_batch(5)
    for states in (batch, batch["next"]):
        states["allowed"] = torch.ones(5, NUM_ACTIONS, dtype=torch.bool)
    everything = loss(batch)["loss"]
    batch["next", "allowed"][:, 0] = False
    assert loss(batch)["loss"] != everything


@pytest.mark.parametrize(("loss_class", "network_class"), [(IQNLoss, MLPIQNetwork), (QRDQNLoss, MLPQRNetwork)])
@every_estimator
def test_transforms_of_torch_func(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    """Unused losses, whose first batch is checked otherwise; vmap over batches, gradients in observations."""
    source = {"source": MidpointFractions()} if loss_class is IQNLoss else {}
    loss, batches = make_loss(loss_class, network_class, estimator, **source), make_batch(3, 5)
    found = torch.func.vmap(lambda batch: loss(batch)["loss"])(batches.clone())
    torch.testing.assert_close(found, torch.stack([loss(batch)["loss"] for batch in batches.unbind(0)]))

    def loss_of(observation: torch.Tensor) -> torch.Tensor:
        return loss(batches[0].clone().set("observation", observation))["loss"]

    observation = batches["observation"][0]
    gradient = torch.autograd.functional.jacobian(loss_of, observation)
    torch.testing.assert_close(torch.func.grad(loss_of)(observation), gradient)
    torch.testing.assert_close(torch.func.jacrev(loss_of)(observation), gradient)

    def loss_under(params: TensorDict) -> torch.Tensor:
        with params.to_module(loss.value_network_params):
            return loss(batches[0].clone())["loss"]

    loss(batches[0])["loss"].backward()
    gradients = torch.func.grad(loss_under)(loss.value_network_params.data)
    for key, parameter in loss.value_network_params.items(True, True):
        if isinstance(parameter, torch.nn.Parameter):
            torch.testing.assert_close(gradients[key], parameter.grad)


@pytest.mark.parametrize(("loss_class", "network_class"), [(IQNLoss, MLPIQNetwork), (QRDQNLoss, MLPQRNetwork)])
def test_gradient_penalty(loss_class: LossClass, network_class: NetworkClass) -> None:
    """Second derivatives in observations; for fractions that depend on them, as FQF's, they are those of constants."""
    options = {"network_options": {"activation": torch.nn.Tanh}, "reduction": "sum"}
    source = {"source": MidpointFractions()} if loss_class is IQNLoss else {}
    loss, batch = make_loss(loss_class, network_class, **options, **source).double(), make_batch(2)
    batch = batch.apply(lambda value: value.double() if value.is_floating_point() else value)
    observation = batch["observation"].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: loss(batch.set("observation", x))["loss"], observation)


@every_loss
def test_averaged_model(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    loss, batch = make_loss(loss_class, network_class, estimator), make_batch(5)
    averaged = AveragedModel(loss)
    averaged.update_parameters(loss)
    expected = losses_of(loss, batch)
    assert_equal(losses_of(averaged.module, batch), expected)
    for parameter in loss.parameters():
        parameter.data.add_(1.0)
    averaged.update_parameters(loss)
    assert not torch.equal(losses_of(averaged.module, batch)["loss"], expected["loss"])
    for mean, parameter in zip(averaged.module.parameters(), loss.parameters(), strict=True):
        torch.testing.assert_close(mean, parameter - 0.5)


@every_loss
def test_no_reduction_given_is_the_mean(loss_class: LossClass, network_class: NetworkClass, estimator: str) -> None:
    batch = make_batch(5)
    found, expected = (
        losses_of(make_loss(loss_class, network_class, estimator, reduction=reduction), batch)
        for reduction in (None, "mean")
    )
    assert_equal(found, expected)


def test_estimators_are_registered_by_name() -> None:
    loss = make_loss(IQNLoss, MLPIQNetwork)
    assert [loss.make_value_estimator(name.lower()).value_type.name for name in QuantileEstimators.__members__] == list(
        QuantileEstimators.__members__
    )
    assert all(name in ESTIMATORS for name in map(str.lower, QuantileEstimators.__members__))


def test_every_combination_is_here() -> None:
    assert {loss for loss, _ in COMBINATIONS} == set(QuantileLoss.__subclasses__())
    assert isinstance(small(MLPFQFNetwork).source, FractionProposal)
