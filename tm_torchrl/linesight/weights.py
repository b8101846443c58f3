"""Weights of Linesight and rulka: their sizes, what they compute, and their conversion to weights of our network.

Shapes: B batch, N fractions, F floats, E cosines, D features, A actions, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tm_torchrl.modules import MLPIQNetwork, Normalize, PixelEncoder

CONVOLUTIONS = {"img_head.0": 2, "img_head.2": 2, "img_head.4": 2, "img_head.6": 1}  # strides
FLOATS = ("float_feature_extractor.0", "float_feature_extractor.2")
LAYERS = {  # their names and ours
    "img_head": "encoder.pixels.layers",
    "float_feature_extractor": "encoder.floats.layers",
    "iqn_fc": "head.conditioning.projection",
    "A_head": "head.decoder.advantage",
    "V_head": "head.decoder.value",
}
HEADS = ("iqn_fc.0", "A_head.0", "A_head.2", "V_head.0", "V_head.2")
IMAGE_SIZES = ((64, 64), (120, 160))  # height and width in rulka and in Linesight
LIKELY_PREFIXES = ("_orig_mod.", "module.")  # prefixes of compiled and of parallel networks
_SLOPE = 0.01  # of the leaky ReLU


class WeightsError(ValueError):
    """A file does not hold weights or constants that can be imported."""


@dataclass(frozen=True)
class LinesightShape:
    """The sizes of a network.

    Args:
        num_inputs: Number of floats F.
        num_actions: Number of actions A.
        hidden_size: Size of the floats' layers.
        head_size: Size of the two streams, half of ``dense_hidden_dimension``.
        num_cosines: Number of cosines E.
        image_size: (H, W), or ``None`` for a network without images.
    """

    num_inputs: int
    num_actions: int
    hidden_size: int
    head_size: int
    num_cosines: int
    image_size: tuple[int, int] | None


def read_linesight(path: str | Path) -> dict[str, Tensor]:
    """The tensors of ``weights1.torch`` (online) or ``weights2.torch`` (target); no code in the file is run."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: does not exist; give weights1.torch of a folder in save/") from None
    except Exception as error:  # damaged files raise all kinds, IndexError among others
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path}: holds more than tensors ({reason[0] if reason else type(error).__name__}) and was not loaded, "
            "because other objects can run code; give weights1.torch, a state dict"
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path}: is not a state dict of tensors; give weights1.torch")
    weights = {}
    for name, value in found.items():
        while (prefix := next((each for each in LIKELY_PREFIXES if str(name).startswith(each)), None)) is not None:
            name = str(name).removeprefix(prefix)
        weights[str(name)] = value.float()
    return weights


def linesight_shape(weights: Mapping[str, Tensor], *, image_size: tuple[int, int] | None = None) -> LinesightShape:
    """The sizes of the network; raises ``WeightsError`` for another architecture, with the layers that differ.

    Args:
        weights: Weights that ``read_linesight`` returned.
        image_size: (H, W) if it is neither 64 x 64 nor 120 x 160; the weights alone do not determine it.

    Examples:
        >>> linesight_shape(linesight_like(LinesightShape(184, 12, 256, 512, 64, (64, 64)))).image_size
        (64, 64)
    """
    sees_images = any(name.startswith("img_head.") for name in weights)
    layers = [*(CONVOLUTIONS if sees_images else ()), *FLOATS, *HEADS]
    names = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    differing = sorted(names - weights.keys()) + sorted(weights.keys() - names)
    if differing:
        kinds = "; ".join(f"{name} {'is missing' if name in names else 'is unknown'}" for name in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise WeightsError(
            f"weights: are not those of Linesight's plain IQN: {kinds}{more}; other networks (IMPALA, layer norm, "
            "noisy layers, fusion, PPO) cannot be imported"
        )
    num_features, num_cosines = weights["iqn_fc.0.weight"].shape
    hidden, num_inputs = weights[f"{FLOATS[0]}.weight"].shape
    found: tuple[int, int] | None = None
    if sees_images:
        sizes = IMAGE_SIZES if image_size is None else (image_size,)
        fitting = [size for size in sizes if PixelEncoder(image_size=size).num_features == num_features - hidden]
        if not fitting:
            listed = " or ".join(f"{height} x {width}" for height, width in sizes)
            raise WeightsError(
                f"iqn_fc.0.weight: has {num_features} rows, of which {num_features - hidden} are features of the "
                f"image; images of {listed} have other numbers of features; give --image HEIGHTxWIDTH"
            )
        found = fitting[0]
    shape = LinesightShape(
        num_inputs=num_inputs,
        num_actions=weights["A_head.2.weight"].shape[0],
        hidden_size=hidden,
        head_size=weights["A_head.0.weight"].shape[0],
        num_cosines=num_cosines,
        image_size=found,
    )
    expected = {name: tuple(value.shape) for name, value in linesight_like(shape).items()}
    wrong = [name for name, value in weights.items() if tuple(value.shape) != expected[name]]
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"{name}: has shape {tuple(weights[name].shape)}, but the other layers need {expected[name]}; give the "
            "complete weights of one network"
        )
    return shape


def linesight_like(shape: LinesightShape, *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights with the names and shapes of the original."""
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, tuple[int, ...]] = {}
    num_pixels = 0
    if shape.image_size is not None:
        num_pixels = PixelEncoder(image_size=shape.image_size).num_features
        sizes |= {
            "img_head.0": (16, 1, 4, 4),
            "img_head.2": (32, 16, 4, 4),
            "img_head.4": (64, 32, 3, 3),
            "img_head.6": (32, 64, 3, 3),
        }
    num_features = num_pixels + shape.hidden_size
    sizes |= {
        FLOATS[0]: (shape.hidden_size, shape.num_inputs),
        FLOATS[1]: (shape.hidden_size, shape.hidden_size),
        "iqn_fc.0": (num_features, shape.num_cosines),
        "A_head.0": (shape.head_size, num_features),
        "A_head.2": (shape.num_actions, shape.head_size),
        "V_head.0": (shape.head_size, num_features),
        "V_head.2": (1, shape.head_size),
    }
    weights = {}
    for layer, size in sizes.items():
        scale = 1 / math.sqrt(math.prod(size[1:]))
        weights[f"{layer}.weight"] = torch.randn(size, generator=generator) * scale
        weights[f"{layer}.bias"] = torch.randn(size[:1], generator=generator) * 0.1
    return weights


def reference_values(
    weights: Mapping[str, Tensor], floats_BF: Tensor, fractions_BN: Tensor, *, pixels_BCHW: Tensor | None = None
) -> Tensor:
    """Quantile values ``[B, N, A]`` as the original network computes them, layer by layer.

    Args:
        weights: Weights of the original.
        floats_BF: Normalised floats.
        fractions_BN: Fractions.
        pixels_BCHW: Images, uint8, for networks that read them.
    """

    def linear(name: str, inputs: Tensor) -> Tensor:
        return F.linear(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"])

    features = floats_BF
    for name in FLOATS:
        features = F.leaky_relu(linear(name, features), _SLOPE)
    if pixels_BCHW is not None:
        image = (pixels_BCHW.float() - 128) / 128
        for name, stride in CONVOLUTIONS.items():
            image = F.conv2d(image, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride)
            image = F.leaky_relu(image, _SLOPE)
        features = torch.cat([image.flatten(1), features], 1)
    num_cosines = weights["iqn_fc.0.weight"].shape[1]
    cosines = torch.cos(math.pi * torch.arange(1, num_cosines + 1) * fractions_BN.unsqueeze(-1))
    mixed = features.unsqueeze(1) * F.leaky_relu(linear("iqn_fc.0", cosines), _SLOPE)
    advantage, value = (
        linear(f"{head}.2", F.leaky_relu(linear(f"{head}.0", mixed), _SLOPE)) for head in ("A_head", "V_head")
    )
    return value + advantage - advantage.mean(-1, keepdim=True)


def to_our_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with the names of our classic network."""
    found = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        ours = LAYERS[part]
        if part == "float_feature_extractor" and "img_head.0.weight" not in weights:
            ours = "encoder.layers"
        found[f"{ours}.{rest}"] = value.clone()
    return found


def make_network(shape: LinesightShape, *, normalize: Normalize) -> MLPIQNetwork:
    """Our network of the same architecture."""
    image_shape = None if shape.image_size is None else (1, *shape.image_size)
    return MLPIQNetwork(
        shape.num_inputs,
        shape.num_actions,
        hidden_sizes=(shape.hidden_size, shape.hidden_size),
        head_size=shape.head_size,
        num_cosines=shape.num_cosines,
        image=None if image_shape is None else PixelEncoder,
        image_shape=image_shape,
        normalize=normalize,
    )


@torch.no_grad()
def greatest_difference(
    network: MLPIQNetwork, weights: Mapping[str, Tensor], shape: LinesightShape, *, num: int = 32, seed: int = 0
) -> float:
    """The greatest difference between our values and the original's, as a share of the values' standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    normalize = network.encoder.get_submodule("normalize" if shape.image_size is None else "floats.normalize")
    assert isinstance(normalize, Normalize)
    floats = normalize.mean + normalize.scale * torch.randn(num, shape.num_inputs, generator=generator)
    fractions = torch.rand(num, 8, generator=generator)
    pixels = None
    if shape.image_size is not None:
        pixels = torch.randint(256, (num, 1, *shape.image_size), dtype=torch.uint8, generator=generator)
    theirs = reference_values(weights, normalize(floats), fractions, pixels_BCHW=pixels)
    seen = (floats,) if pixels is None else (pixels, floats)
    ours = network.quantiles(*seen, fractions=fractions).values
    spread = float(theirs.std()) or 1.0
    return float((ours - theirs).abs().max()) / spread
