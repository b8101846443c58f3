"""The losses against slow references in float64, written from the papers with loops over samples and quantiles.

QR-DQN: Dabney et al. 2018, "Distributional RL with Quantile Regression". IQN: Dabney et al. 2018, "Implicit Quantile
Networks". Munchausen: Vieillard et al. 2020. FQF: Yang et al. 2019.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from tests.objectives.cases import (
    ESTIMATORS,
    GAMMA,
    NUM_FRACTIONS,
    every_estimator,
    make_batch,
    make_loss,
    small,
)
from tm_torchrl.modules import (
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    QuantileNetwork,
    StratifiedFractions,
)
from tm_torchrl.objectives import FQFLoss, IQNLoss, QRDQNLoss
from tm_torchrl.objectives.quantile_loss import QuantileLoss

NUM_SAMPLES, NUM_TARGETS = 5, 4


class Recorded(StratifiedFractions):
    """Records its draws."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor] = []

    def draw(self, shape: tuple[int, ...], num_fractions: int, device: Any) -> Tensor:
        self.draws.append(super().draw(shape, num_fractions, device).double())
        return self.draws[-1].float()


class Reference:
    """The losses of one batch, from double-precision copies of a loss's two networks."""

    def __init__(self, loss: QuantileLoss, network_class: type[QuantileNetwork], num_slots: int | None) -> None:
        self.nets = []
        for params in (loss.value_network_params, loss.target_value_network_params):
            net = small(network_class, num_slots=num_slots)
            weights = {key.removeprefix("network."): value for key, value in params.data.flatten_keys(".").items()}
            net.load_state_dict({key: value for key, value in weights.items() if key in net.state_dict()})
            self.nets.append(net.double())
        self.online, self.target = self.nets

    @torch.no_grad()
    def samples(self, net: QuantileNetwork, state: Tensor, fractions: Tensor | None) -> list[tuple[float, Tensor]]:
        """Pairs of probability and values [S, A] of one state's quantiles."""
        given = None if fractions is None else fractions.unsqueeze(0)
        quantiles = net.quantiles(state.double().unsqueeze(0), fractions=given)
        values = quantiles.values[0].reshape(quantiles.values.shape[1], -1, 3)
        edges = quantiles.edges
        if edges is None:
            return [(1 / len(values), value) for value in values]
        return [(float(edges[0, i + 1] - edges[0, i]), values[i]) for i in range(len(values))]

    def mean(self, samples: list[tuple[float, Tensor]]) -> list[list[float]]:
        num_slots, num_actions = samples[0][1].shape
        return [
            [sum(p * float(value[slot, a]) for p, value in samples) for a in range(num_actions)]
            for slot in range(num_slots)
        ]

    def log_policy(self, means: list[float], temperature: float) -> list[float]:
        highest = max(means)
        log_sum = math.log(sum(math.exp((q - highest) / temperature) for q in means))
        return [(q - highest) / temperature - log_sum for q in means]

    def targets(self, sample: TensorDictBase, estimator: str, fractions: dict[str, Tensor | None]) -> list[float]:
        settings = ESTIMATORS[estimator]
        reward, n = float(sample["next", "reward"]), int(sample["steps_to_next_obs"])
        discount = 0.0 if sample["next", "terminated"] else GAMMA**n
        after = self.samples(self.target, sample["next", "observation"], fractions["after"])
        means = self.mean(after)
        if estimator in ("greedy", "double"):
            if estimator == "double":
                means = self.mean(self.samples(self.online, sample["next", "observation"], fractions["choice"]))
            best = [max(range(3), key=lambda a, row=row: row[a]) for row in means]
            values = [sum(float(value[slot, a]) for slot, a in enumerate(best)) / len(best) for _, value in after]
        else:
            temperature = settings["temperature"]
            values = [0.0] * len(after)
            for slot, row in enumerate(means):
                log_pi = self.log_policy(row, temperature)
                for i, (_, value) in enumerate(after):
                    soft = (math.exp(log_pi[a]) * (float(value[slot, a]) - temperature * log_pi[a]) for a in range(3))
                    values[i] += sum(soft) / len(means)
        if estimator == "munchausen":
            before = self.mean(self.samples(self.target, sample["observation"], fractions["before"]))
            for slot, row in enumerate(before):
                action = int(sample["action"].reshape(-1)[slot])
                log_pi = self.log_policy(row, temperature)[action]
                reward += settings["alpha"] * min(0.0, max(settings["clip"], temperature * log_pi)) / len(before)
        return [reward + discount * value for value in values]

    def loss(self, values: list[Tensor], levels: list[float], targets: list[float], kappa: float) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for value, level in zip(values, levels, strict=True):
            for target in targets:
                u = target - value
                size = u.detach().abs().item()
                huber = 0.5 * u**2 if size <= kappa else kappa * (u.abs() - 0.5 * kappa)
                total = total + abs(level - (u.detach().item() < 0)) * huber / kappa / len(targets)
        return total


def batch_with_steps(num_slots: int | None) -> TensorDict:
    batch = make_batch(NUM_SAMPLES, num_slots=num_slots)
    batch["steps_to_next_obs"] = torch.tensor([[1], [2], [3], [1], [2]])
    return batch


def value_of(values: Tensor, sample: TensorDictBase) -> list[Tensor]:
    """Values [N, S, A] of the actions taken, [N]; the mean over slots."""
    actions = sample["action"].reshape(-1)
    return [sum(value.reshape(-1, 3)[slot, a] for slot, a in enumerate(actions)) / len(actions) for value in values]


# In float32 the cosine of up to 64 pi times a fraction is known to 64 pi * 2^-24 = 1e-5.
def assert_gradients_agree(loss: QuantileLoss, reference: QuantileNetwork, num_expected: int) -> None:
    found = {key.removeprefix("network."): p for key, p in loss.value_network_params.flatten_keys(".").items()}
    num = 0
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            largest = parameter.grad.abs().max()
            assert ((found[name].grad - parameter.grad).abs() <= 1e-4 * largest + 1e-5).all(), name
            num += 1
    assert num == num_expected


@every_estimator
@pytest.mark.parametrize("num_slots", [None, 2])
@pytest.mark.parametrize("kappa", [1.0, 0.05])
@pytest.mark.parametrize(
    ("loss_class", "network_class"), [(IQNLoss, MLPIQNetwork), (IQNLoss, MLPNQNetwork), (QRDQNLoss, MLPQRNetwork)]
)
def test_parity(
    loss_class: type[QuantileLoss],
    network_class: type[QuantileNetwork],
    estimator: str,
    num_slots: int | None,
    kappa: float,
) -> None:
    source = Recorded()
    options = {"source": source} if loss_class is IQNLoss else {}
    loss = make_loss(
        loss_class, network_class, estimator, network_options={"num_slots": num_slots}, kappa=kappa, **options
    )
    reference, batch = Reference(loss, network_class, num_slots), batch_with_steps(num_slots)
    found = loss(batch)["loss"]
    found.backward()
    draws = dict(
        zip(("online", "after") if estimator != "double" else ("online", "choice", "after"), source.draws, strict=False)
    )
    if estimator == "munchausen" and draws:
        draws["before"], draws["after"] = draws["after"].chunk(2)
    total = torch.zeros((), dtype=torch.float64)
    for b, sample in enumerate(batch.unbind(0)):
        of_sample = {
            name: draws[name][b] if name in draws else None for name in ("online", "choice", "before", "after")
        }
        state = sample["observation"].double().unsqueeze(0)
        levels = [(j + 0.5) / NUM_FRACTIONS for j in range(NUM_FRACTIONS)]
        given = None
        if of_sample["online"] is not None:
            levels, given = of_sample["online"].tolist(), of_sample["online"].unsqueeze(0)
        values = value_of(reference.online.quantiles(state, fractions=given).values[0], sample)
        targets = reference.targets(sample, estimator, of_sample)
        assert len(targets) == (NUM_TARGETS if draws else NUM_FRACTIONS)
        total = total + reference.loss(values, levels, targets, kappa) / NUM_SAMPLES
        priority = abs(sum(value.item() for value in values) / len(values) - sum(targets) / len(targets))
        assert float(sample["td_error"]) == pytest.approx(priority, rel=1e-4, abs=1e-6)
    total.backward()
    assert found.item() == pytest.approx(total.item(), rel=1e-5)
    assert_gradients_agree(loss, reference.online, len(list(reference.online.parameters())))


@every_estimator
@pytest.mark.parametrize("num_slots", [None, 2])
def test_parity_of_fqf(estimator: str, num_slots: int | None) -> None:
    entropy_coefficient = 0.05
    loss = make_loss(
        FQFLoss,
        MLPFQFNetwork,
        estimator,
        network_options={"num_slots": num_slots},
        entropy_coefficient=entropy_coefficient,
    )
    # Parts far from equal, so that their widths matter.
    for params in (loss.value_network_params, loss.target_value_network_params):
        params["network", "source", "logits", "weight"].data.mul_(100)
    reference, batch = Reference(loss, MLPFQFNetwork, num_slots), batch_with_steps(num_slots)
    found = loss(batch)
    (found["loss"] + found["loss_fraction"]).backward()
    net, total, total_fraction = reference.online, 0.0, 0.0
    for sample in batch.unbind(0):
        features = net.encoder(sample["observation"].double().unsqueeze(0))
        parts = torch.softmax(net.source.logits(features.detach())[0], 0)
        edges = [torch.zeros((), dtype=torch.float64)]
        for part in parts:
            edges.append(edges[-1] + part)
        levels = [(edges[i] + edges[i + 1]).item() / 2 for i in range(NUM_FRACTIONS)]

        def quantile(level: float, features: Tensor = features, sample: TensorDictBase = sample) -> Tensor:
            (value,) = value_of(net.head(features, torch.tensor([[level]], dtype=torch.float64))[0], sample)
            return value

        values = [quantile(level) for level in levels]
        targets = reference.targets(sample, estimator, dict.fromkeys(("choice", "before", "after")))
        total = total + reference.loss(values, levels, targets, 1.0) / NUM_SAMPLES
        for i in range(1, NUM_FRACTIONS):
            at_edge = quantile(edges[i].item()).item()
            slope = abs(at_edge - values[i - 1].item()) - abs(at_edge - values[i].item())
            total_fraction = total_fraction + slope * edges[i] / NUM_SAMPLES
        entropy = -sum(part * part.log() for part in parts)
        total_fraction = total_fraction - entropy_coefficient * entropy / NUM_SAMPLES
    (total + total_fraction).backward()
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    assert found["loss_fraction"].item() == pytest.approx(total_fraction.item(), rel=1e-4)
    assert_gradients_agree(loss, net, len(list(net.parameters())))
