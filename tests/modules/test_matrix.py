"""Every encoder with every pooling, norm, head and family: all parameters learn; some networks are exported."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Categorical

from tm_torchrl.agents.export import GreedyPolicy
from tm_torchrl.modules import (
    FiLM,
    Hadamard,
    ImpalaEncoder,
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    PixelEncoder,
    QuantileActor,
    QuantileModule,
    QuantileNetwork,
    ResidualTrunk,
)
from tm_torchrl.modules.quantiles.slots import MIXERS
from tm_torchrl.objectives import FQFLoss, IQNLoss, QRDQNLoss

FAMILIES = {
    "iqn": (MLPIQNetwork, IQNLoss),
    "fqf": (MLPFQFNetwork, FQFLoss),
    "qrdqn": (MLPQRNetwork, QRDQNLoss),
    "nq": (MLPNQNetwork, QRDQNLoss),
}
POOLINGS = {
    "flatten": {},
    "max": {"pooling": "max", "pool_size": 2},
    "average": {"pooling": "average", "pool_size": 2},
    "global": {"pooling": "global_average"},
}
IMAGES = {
    "classic": (PixelEncoder, 50, (None, "all")),  # the least edge whose map is 2 x 2
    "impala": (ImpalaEncoder, 16, (None, "residual", "all")),
}
HEADS: dict[str, dict[str, Any]] = {
    "dueling": {},
    "single": {"dueling": False},
    "noisy": {"linear": "noisy"},
    "noisy_hidden_value": {"linear": "noisy", "noisy_value": "hidden"},
}
PRODUCT = [
    (family, image, pooling, norm, layer_norm, head)
    for family in FAMILIES
    for image, (_, _, norms) in IMAGES.items()
    for pooling in POOLINGS
    for norm in norms
    for layer_norm in (False, True)
    for head in HEADS
]
# Every seventh runs always: 7 divides no number of choices, so these cover every pair. The others take two minutes.
CELLS = [
    pytest.param(*cell, id="-".join(map(str, cell)), marks=[] if i % 7 == 0 else [pytest.mark.slow])
    for i, cell in enumerate(PRODUCT)
]


def image_of(name: str, pooling: str, norm: str | None) -> dict[str, Any]:
    encoder, edge, _ = IMAGES[name]
    return {"image": partial(encoder, spectral_norm=norm, **POOLINGS[pooling]), "image_shape": (1, edge, edge)}


def small(family: str, *, num_inputs: int | None = 4, **options: Any) -> QuantileNetwork:
    torch.manual_seed(0)
    return FAMILIES[family][0](num_inputs, 3, **({"hidden_sizes": (8,), "head_size": 8, "num_fractions": 4} | options))


def make_batch(keys: list[str], *, size: int = 4, edge: int = 16, num_slots: int | None = None) -> TensorDict:
    generator = torch.Generator().manual_seed(1)

    def seen() -> dict[str, torch.Tensor]:
        pixels = torch.randint(256, (size, 1, edge, edge), dtype=torch.uint8, generator=generator)
        both = {"pixels": pixels, "observation": torch.randn(size, 4, generator=generator)}
        return {key: both[key] for key in keys}

    ends = torch.zeros(size, 1, dtype=torch.bool)
    after = seen() | {"reward": torch.randn(size, 1, generator=generator), "done": ends, "terminated": ends.clone()}
    action = torch.arange(size) % 3
    if num_slots is not None:
        action = (action.unsqueeze(-1) + torch.arange(num_slots)) % 3
    return TensorDict({**seen(), "action": action, "next": TensorDict(after, [size])}, [size])


def learn(
    family: str, network: QuantileNetwork, keys: list[str], *, edge: int = 16, num_slots: int | None = None
) -> None:
    """One gradient step, in which every parameter has a gradient and the loss decreases."""
    torch.manual_seed(0)
    loss = FAMILIES[family][1](QuantileModule(network, in_keys=keys), action_space="categorical")
    batch = make_batch(keys, edge=edge, num_slots=num_slots)
    losses = loss(batch)
    sum(losses[key] for key in loss.out_keys).backward()
    gradients = {name: parameter.grad for name, parameter in loss.named_parameters()}
    assert len(gradients) == len(list(network.parameters()))
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    before = losses["loss"].item()
    torch.optim.SGD([{**group, "lr": 1e-4 * group["lr_scale"]} for group in loss.parameter_groups()]).step()
    torch.manual_seed(0)
    assert loss(batch)["loss"].item() < before


@pytest.mark.parametrize(("family", "image", "pooling", "norm", "layer_norm", "head"), CELLS)
def test_matrix(family: str, image: str, pooling: str, norm: str | None, layer_norm: bool, head: str) -> None:
    network = small(family, layer_norm=layer_norm, **image_of(image, pooling, norm), **HEADS[head])
    learn(family, network, ["pixels", "observation"], edge=IMAGES[image][1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ["leaky_relu", "relu", "gelu", "crelu"])
@pytest.mark.parametrize("keys", [["observation"], ["pixels"], ["pixels", "observation"]], ids="+".join)
@pytest.mark.parametrize("image", IMAGES)
def test_observations_and_activations(family: str, activation: str, keys: list[str], image: str) -> None:
    options = image_of(image, "max", None) if "pixels" in keys else {}
    num_inputs = 4 if "observation" in keys else None
    trunk = partial(ResidualTrunk, hidden_size=8, num_blocks=2)
    network = small(family, num_inputs=num_inputs, activation=activation, trunk=trunk, head_size=16, **options)
    learn(family, network, keys, edge=IMAGES[image][1])
    single = make_batch(keys, edge=IMAGES[image][1])[0]
    assert network.act(*(single[key] for key in keys)).shape == ()
    assert network.act(*(single[key].expand(2, 5, *single[key].shape) for key in keys)).shape == (2, 5)


@pytest.mark.parametrize("family", ["iqn", "fqf"])
@pytest.mark.parametrize("conditioning", [Hadamard, FiLM])
@pytest.mark.parametrize(
    "options", [{"num_layers": 2}, {"num_layers": 3, "hidden_size": 6, "layer_norm": True}], ids=str
)
def test_deeper_fraction_projections(family: str, conditioning: type[nn.Module], options: dict[str, Any]) -> None:
    network = small(family, conditioning=partial(conditioning, **options))
    layers = [layer for layer in network.head.conditioning.projection if isinstance(layer, nn.Linear)]
    hidden = options.get("hidden_size", 8)
    assert [layer.in_features for layer in layers] == [64] + [hidden] * (options["num_layers"] - 1)
    learn(family, network, ["observation"])


IMAGE_CASES = [("classic", "flatten", "all"), ("impala", "max", "residual"), ("impala", "global", None)]
# Families differ in the head, images in the encoder: each meets several of the others, not all.
OF_IMAGES = [
    (family, image, {"layer_norm": True, **HEADS["noisy_hidden_value" if i % 2 else "dueling"]})
    for i, family in enumerate(FAMILIES)
    for j, image in enumerate(IMAGE_CASES)
    if (i + j) % 2
]
OF_BLOCKS = [
    (("iqn", "qrdqn")[i % 2], None, {"num_slots": 5, "mixer": mixer}) for i, mixer in enumerate((None, *MIXERS))
]


@pytest.mark.parametrize(("family", "image", "options"), OF_IMAGES + OF_BLOCKS, ids=str)
def test_export(family: str, image: tuple[str, str, str | None] | None, options: dict[str, Any]) -> None:
    keys, edge = (["observation"], 16) if image is None else (["pixels", "observation"], IMAGES[image[0]][1])
    network = small(family, value_per_slot=bool(options.get("mixer")), **(image_of(*image) if image else {}), **options)
    spec = Categorical(3, shape=() if network.num_slots is None else (5,))
    policy = GreedyPolicy(QuantileActor(network, spec=spec, in_keys=keys)).eval()
    states, others = (tuple(make_batch(keys, size=size, edge=edge)[key] for key in keys) for size in (8, 5))
    rows = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(policy, states, dynamic_shapes=(tuple({0: rows} for _ in states),)).module()
    assert policy(*others).shape == (5, *spec.shape)
    assert torch.equal(program(*others), policy(*others))
