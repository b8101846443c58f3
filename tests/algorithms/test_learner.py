"""The learner: one worked update, limits, decay, broken batches, state."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torchrl.objectives import SoftUpdate

from tm_torchrl.algorithms.learner import Learner, NonFiniteLossError
from tm_torchrl.modules import MLPFQFNetwork, MLPQRNetwork
from tm_torchrl.objectives import FQFLoss, HardUpdate, QRDQNLoss


def make_learner(**options: object) -> Learner:
    torch.manual_seed(0)
    network = MLPQRNetwork(3, 2, hidden_sizes=(8,), head_size=8, num_fractions=4)
    loss = QRDQNLoss(network, action_space="categorical")
    settings: dict[str, object] = {"learning_rate": 0.1, **options}
    return Learner(loss, torch.optim.SGD, target=SoftUpdate(loss, tau=0.5), **settings)  # type: ignore[arg-type]


def make_batch(reward: float = 1.0) -> TensorDict:
    torch.manual_seed(1)
    return TensorDict(
        {
            "observation": torch.randn(16, 3),
            "action": torch.randint(2, (16,)),
            "next": {
                "observation": torch.randn(16, 3),
                "reward": torch.full((16, 1), reward),
                "done": torch.ones(16, 1, dtype=torch.bool),
                "terminated": torch.ones(16, 1, dtype=torch.bool),
            },
        },
        batch_size=[16],
    )


def weights(learner: Learner) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.parameters]


def test_an_update_goes_down_the_clipped_gradient() -> None:
    learner = make_learner(clip_norm=1e-3)
    before = weights(learner)
    found = learner.update(make_batch())
    moved = torch.cat([(b - a).flatten() for a, b in zip(before, weights(learner), strict=True)])
    assert float(found["gradient_norm"]) > 1e-3
    # Plain descent: the whole step is the learning rate times the limit of the norm, 0.1 * 1e-3.
    torch.testing.assert_close(moved.norm(), torch.tensor(1e-4), rtol=1e-3, atol=0)
    losses = [float(learner.update(make_batch())["loss"]) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)


def test_without_a_limit_the_whole_gradient_is_followed_and_its_norm_told() -> None:
    learner = make_learner(clip_norm=None)
    before = weights(learner)
    found = learner.update(make_batch())
    moved = torch.cat([(b - a).flatten() for a, b in zip(before, weights(learner), strict=True)])
    torch.testing.assert_close(moved.norm(), 0.1 * found["gradient_norm"], rtol=1e-3, atol=0)
    assert float(found["gradient_norm"]) > 0


def test_the_target_network_follows() -> None:
    learner = make_learner()
    online, target = learner.loss.value_network_params, learner.loss.target_value_network_params
    key = ("module", "0", "weight")
    key = next(k for k in online.keys(True, True) if str(k[-1]) == "weight")
    old = target[key].clone()
    learner.update(make_batch())
    torch.testing.assert_close(target[key], 0.5 * old + 0.5 * online[key])


def test_decay_is_apart_from_the_gradient() -> None:
    one, two = make_learner(), make_learner(decay_per_learning_rate=0.2)
    for learner in (one, two):
        learner.update(make_batch())
    for plain, decayed in zip(weights(one), weights(two), strict=True):
        torch.testing.assert_close(decayed, plain * (1 - 0.2 * 0.1))


def test_a_broken_batch_changes_nothing_but_the_count() -> None:
    learner = make_learner(max_skipped=2)
    learner.update(make_batch())
    before = weights(learner)
    for _ in range(2):
        learner.update(make_batch(float("nan")))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(learner), strict=True))
    assert (learner.num_updates, learner.num_skipped) == (1, 2)
    learner.update(make_batch())  # a good one between starts the count anew
    for _ in range(2):
        learner.update(make_batch(float("inf")))
    with pytest.raises(NonFiniteLossError, match=r"not finite in 3 updates in a row.* objective\.loss\.check_finite"):
        learner.update(make_batch(float("nan")))


def test_groups_keep_their_scale_of_the_learning_rate() -> None:
    network = MLPFQFNetwork(3, 2, hidden_sizes=(8,), head_size=8, num_fractions=4)
    loss = FQFLoss(network, action_space="categorical", fraction_lr_scale=0.01)
    learner = Learner(loss, partial(torch.optim.Adam, eps=1e-4), target=HardUpdate(loss, period=2))
    learner.learning_rate = 0.5
    assert [group["lr"] for group in learner.optimizer.param_groups] == [0.5, 0.005]
    assert set(learner.update(make_batch())) == {"loss", "loss_fraction", "gradient_norm"}


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}, {"clip_value": 0.01}], ids=str)
def test_state_goes_on_exactly(options: dict[str, object]) -> None:
    one, two = make_learner(**options), make_learner(**options)
    one.update(make_batch())
    two.load_state_dict(one.state_dict())
    for learner in (one, two):
        learner.update(make_batch())
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    assert one.num_updates == two.num_updates == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"precision": "float8"}, "precision='float8': must be float32 or bfloat16"),
        ({"decay_per_learning_rate": -1.0}, "must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"compile": "fastest"}, "compile='fastest': must be true, false, auto or one of default, reduce-overhead"),
    ],
)
def test_messages(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is compared)
        make_learner(**options)
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [True, "default", "reduce-overhead"])
def test_compiled_updates_are_those_of_eager_ones(mode: bool | str) -> None:
    eager, compiled = make_learner(), make_learner(compile=mode)
    for _ in range(3):
        wanted, found = eager.update(make_batch()), compiled.update(make_batch())
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(weights(compiled), weights(eager))
