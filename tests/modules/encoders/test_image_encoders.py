"""Image encoders: sizes counted by hand, pooling, spectral norm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests.modules.test_matrix import make_batch
from tm_torchrl.modules import (
    ImpalaEncoder,
    LayerStyle,
    MLPIQNetwork,
    MLPQRNetwork,
    PixelEncoder,
    QuantileModule,
    SpectralConv2d,
)
from tm_torchrl.modules.encoders.impala import ResidualBlock
from tm_torchrl.modules.encoders.pooling import pooling_layers
from tm_torchrl.modules.layers.activations import leaky_relu
from tm_torchrl.modules.layers.spectral_norm import spectral_norm
from tm_torchrl.objectives import HardUpdate, QRDQNLoss

ENCODERS = [PixelEncoder, ImpalaEncoder]
every_encoder = pytest.mark.parametrize("encoder_class", ENCODERS)


BTR = {"linear": "noisy", "noisy_value": "hidden", "layer_norm": True, "activation": "relu"}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # For each stage: in * out * 9 + out, and four times out * out * 9 + out.
        (ImpalaEncoder, (1 * 16 * 9 + 16) + 4 * 2_320 + (16 * 32 * 9 + 32) + 4 * 9_248 + 9_248 + 4 * 9_248),
        (partial(ImpalaEncoder, width=2), 388_160),
        (partial(ImpalaEncoder, width=4), 1_550_464),
        # Linesight: convolutions; floats; projection 128 * 768 + 768; advantage 768 * 512 + 512 and 512 * 12 + 12;
        # value 393,728 and 513.
        (
            partial(MLPIQNetwork, 184, 12, image=PixelEncoder, head_size=512, num_cosines=128),
            (272 + 8_224 + 18_496 + 18_464) + (184 * 256 + 256 + 65_792) + 99_072 + (393_728 + 6_156) + 394_241,
        ),
        (partial(MLPIQNetwork, 264, 12, image=PixelEncoder, head_size=512, num_cosines=128), 1_072_285),
        # BTR, D = 64 * 6 * 6 + 256 = 2,560: encoder; floats with two norms of 512; projection 64 * D + D; each stream:
        # D * 512 + 512 twice (mean, deviation), its norm 1,024; advantages 512 * 12 + 12 twice; the plain value 513.
        (
            partial(MLPIQNetwork, 264, 12, image=partial(ImpalaEncoder, width=2, pooling="max"), head_size=512, **BTR),
            388_160 + (67_840 + 65_792 + 1_024) + 166_400 + 2 * (2 * 1_311_232 + 1_024) + 2 * 6_156 + 513,
        ),
    ],
)
def test_sizes_counted_by_hand(make: Callable[..., nn.Module], expected: int) -> None:
    options = {"image_shape": (1, 64, 64)} if getattr(make, "func", None) is MLPIQNetwork else {}
    assert sum(parameter.numel() for parameter in make(**options).parameters()) == expected


@pytest.mark.parametrize(
    ("options", "num_features"),
    [
        ({}, 64 * 8 * 8),
        ({"pooling": "max"}, 64 * 6 * 6),
        ({"pooling": "max", "pool_size": 4}, 64 * 4 * 4),
        ({"pooling": "average"}, 64 * 6 * 6),
        ({"pooling": "global_average"}, 64),
        ({"pooling": "global_average", "activation": "crelu"}, 2 * 64),
        ({"image_size": 33}, 64 * 5 * 5),  # 33, 17, 9, 5
        ({"image_size": 33, "stem_stride": 2}, 64 * 3 * 3),  # 17, 9, 5, 3
        ({"image_size": 1}, 64),
    ],
)
def test_features_of_impala(options: dict[str, Any], num_features: int) -> None:
    encoder = ImpalaEncoder(width=2, **options)
    size = options.get("image_size", 64)
    assert encoder.num_features == num_features
    assert encoder(torch.randint(256, (2, 1, size, size), dtype=torch.uint8)).shape == (2, num_features)


def test_pooling_by_hand() -> None:
    rows = torch.arange(16.0).view(1, 1, 4, 4)
    expected = {
        "flatten": list(range(16)),
        "max": [5, 7, 13, 15],
        "average": [2.5, 4.5, 10.5, 12.5],
        "global_average": [7.5],
    }
    for pooling, values in expected.items():
        size = 2 if pooling in ("max", "average") else None
        layers, num_features = pooling_layers(pooling, pool_size=size, map_size=4, channels=1)
        assert nn.Sequential(*layers)(rows).tolist() == [values]
        assert num_features == len(values)


@pytest.mark.parametrize("activation", [leaky_relu, "relu", "crelu"])
def test_a_residual_block_adds_to_its_input(activation: Any) -> None:
    # With convolutions of 0 nothing is added, and the activation does not overwrite the input.
    style = LayerStyle(activation=activation, initialization=lambda layer, gain: nn.init.zeros_(layer.weight))
    block = ResidualBlock(2, style)
    for layer in block.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)
    maps = torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1)
    assert block(maps).flatten().tolist() == [-2.0, 3.0]
    assert maps.flatten().tolist() == [-2.0, 3.0]


@pytest.mark.parametrize("shape", [(16, 1, 3, 3), (32, 32, 3, 3), (64, 64, 3, 3), (64, 32, 3, 3), (128, 128, 3, 3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    weight = scale * torch.randn(shape)
    exact = torch.linalg.matrix_norm(weight.flatten(1), 2)
    assert 0.975 * exact <= spectral_norm(weight) <= exact * (1 + 1e-6)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9, 0.95, 0.97, 0.99, 1.0])
def test_spectral_norm_where_all_others_are_near_the_largest(ratio: float) -> None:
    values = torch.tensor([2.0] + [2 * ratio] * 127)
    assert 0.975 * 2 <= spectral_norm(torch.diag(values)) <= 2 * (1 + 1e-6)


def test_gradient_of_the_spectral_norm() -> None:
    # Of diag(3, 2): u = v = (1, 0), so u v^T has a single 1.
    weight = torch.diag(torch.tensor([3.0, 2.0])).requires_grad_()
    spectral_norm(weight).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), atol=1e-6, rtol=0)
    nothing = torch.zeros(4, 4, requires_grad=True)
    spectral_norm(nothing).backward()
    assert not nothing.grad.any()  # and not a NaN


def test_normalised_convolution_by_hand() -> None:
    # The weights are the matrix (0, 4) in two outputs: norm 4. Divided by it the outputs are 0 and the input.
    layer = SpectralConv2d(1, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.0, 4.0]).view(2, 1, 1, 1))
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
        assert layer(torch.full((1, 1, 1, 1), 5.0)).flatten().tolist() == pytest.approx([1.0, 5.0])


@pytest.mark.parametrize(
    ("encoder_class", "kind", "num_normalised"),
    [(ImpalaEncoder, None, 0), (ImpalaEncoder, "residual", 12), (ImpalaEncoder, "all", 15), (PixelEncoder, "all", 4)],
)
def test_which_layers_are_normalised(encoder_class: type[nn.Module], kind: str | None, num_normalised: int) -> None:
    def image(**options: Any) -> nn.Module:
        return encoder_class(spectral_norm=kind, **options)

    network = MLPQRNetwork(4, 3, image=image, image_shape=(1, 64, 64))
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(SpectralConv2d) == num_normalised
    assert kinds.count(nn.Linear) == 2 + 2 * 2  # floats and two streams, as they were
    plain = MLPQRNetwork(4, 3, image=encoder_class, image_shape=(1, 64, 64))
    assert list(network.state_dict()) == list(plain.state_dict())


@every_encoder
def test_normalised_features_do_not_depend_on_mode_copy_or_call(encoder_class: type[nn.Module]) -> None:
    torch.manual_seed(0)
    encoder = encoder_class(spectral_norm="all")
    pixels = torch.randint(256, (2, 1, 64, 64), dtype=torch.uint8)
    features = encoder(pixels)
    assert torch.equal(encoder(pixels), features)
    assert torch.equal(encoder.eval()(pixels), features)
    assert torch.equal(copy.deepcopy(encoder)(pixels), features)
    with torch.no_grad():
        assert torch.equal(encoder(pixels), features)
    parameters = dict(encoder.named_parameters())
    assert torch.equal(torch.func.functional_call(encoder, parameters, (pixels,)), features)
    with torch.autocast("cpu", torch.bfloat16):
        weight = next(module.weight for module in encoder.modules() if isinstance(module, SpectralConv2d))
        assert spectral_norm(weight).dtype == torch.float32


def test_a_target_network_is_normalised_by_its_own_weights() -> None:
    torch.manual_seed(0)
    network = MLPQRNetwork(
        4, 3, image=lambda **options: ImpalaEncoder(spectral_norm="all", **options), image_shape=(1, 16, 16)
    )
    loss = QRDQNLoss(network, action_space="categorical")
    loss.value_network.in_keys[:] = ["pixels", "observation"]
    online, target = loss.value_network_params.data, loss.target_value_network_params.data
    batch = make_batch(["pixels", "observation"], size=3)

    def features(params: Any) -> torch.Tensor:
        return loss.evaluate(params, batch, 8).features

    before = features(target)
    for name, value in online.items(True, True):
        if name[-1] == "weight" and value.ndim == 4:
            value.mul_(7.0)  # a factor changes nothing where weights are divided by their norm
    torch.testing.assert_close(features(online), before)
    first = online["network", "encoder", "pixels", "layers", "0", "weight"]
    first[0] += 10.0
    changed = features(online)
    assert not torch.allclose(changed, before)
    assert torch.equal(features(target), before)
    HardUpdate(loss, period=1).step()
    assert torch.equal(features(target), changed)


def assert_compiles(module: nn.Module, output: Callable[[Any], torch.Tensor], **options: Any) -> None:
    torch.compiler.reset()
    found = []
    for each in (module, torch.compile(module, fullgraph=True, **options)):
        module.zero_grad()
        result = output(each)
        result.square().sum().backward()
        found.append((result.detach(), [parameter.grad.clone() for parameter in module.parameters()]))
    (plain, gradients), (compiled, others) = found
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


@pytest.mark.slow
def test_spectral_norm_compiles() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(256, (2, 1, 16, 16), dtype=torch.uint8)
    encoder = ImpalaEncoder(spectral_norm="residual", image_size=16)
    assert_compiles(encoder, lambda module: module(pixels))
    keys = ["pixels", "observation"]
    image = partial(ImpalaEncoder, spectral_norm="residual")
    network = MLPQRNetwork(4, 3, image=image, image_shape=(1, 16, 16), num_fractions=4)
    loss, batch = QRDQNLoss(QuantileModule(network, in_keys=keys), action_space="categorical"), make_batch(keys)
    # inductor takes ten minutes for a loss
    assert_compiles(loss, lambda module: module(batch.clone())["loss"], backend="eager")
