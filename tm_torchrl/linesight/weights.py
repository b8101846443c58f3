"""Weights of the Linesight agent and of rulka: what they hold, what they compute, and as weights of our network.

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
LAYERS = {  # theirs, and ours
    "img_head": "encoder.pixels.layers",
    "float_feature_extractor": "encoder.floats.layers",
    "iqn_fc": "head.conditioning.projection",
    "A_head": "head.decoder.advantage",
    "V_head": "head.decoder.value",
}
HEADS = ("iqn_fc.0", "A_head.0", "A_head.2", "V_head.0", "V_head.2")
IMAGE_SIZES = ((64, 64), (120, 160))  # rulka's and the Linesight agent's, height and width
LIKELY_PREFIXES = ("_orig_mod.", "module.")  # of compiled and of parallel networks
_SLOPE = 0.01  # of the leaky ReLU


class WeightsError(ValueError):
    """A file that does not hold the weights that it should."""


@dataclass(frozen=True)
class LinesightShape:
    """The sizes of a network, as its weights tell them.

    Args:
        num_inputs: F.
        num_actions: A.
        hidden_size: of the floats' layers.
        head_size: of the two streams, half of ``dense_hidden_dimension``.
        num_cosines: E.
        image_size: (H, W), or ``None`` where floats are all that it sees.
    """

    num_inputs: int
    num_actions: int
    hidden_size: int
    head_size: int
    num_cosines: int
    image_size: tuple[int, int] | None


def read_linesight(path: str | Path) -> dict[str, Tensor]:
    """The tensors of ``weights1.torch`` (online) or ``weights2.torch`` (target); nothing in the file is ever run.

    Args:
        path: of the file.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist; give weights1.torch of a folder in save/") from None
    except Exception as error:  # torch raises whatever it stumbles over in a damaged file, IndexError among others
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path} is no file of tensors alone ({reason[0] if reason else type(error).__name__}); it was not read "
            "further, for a file with objects could run anything; give weights1.torch, a state dict"
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict, whose values are all tensors; give weights1.torch")
    weights = {}
    for name, value in found.items():
        while (prefix := next((each for each in LIKELY_PREFIXES if str(name).startswith(each)), None)) is not None:
            name = str(name).removeprefix(prefix)
        weights[str(name)] = value.float()
    return weights


def linesight_shape(weights: Mapping[str, Tensor], *, image_size: tuple[int, int] | None = None) -> LinesightShape:
    """The sizes of the network; refuses weights of another architecture, with the layers that differ.

    Args:
        weights: as ``read_linesight`` gives them.
        image_size: (H, W) if it is neither 64 x 64 nor 120 x 160: maps of several sizes have as many features.

    Examples:
        >>> linesight_shape(linesight_like(LinesightShape(184, 12, 256, 512, 64, (64, 64)))).image_size
        (64, 64)
    """
    sees_images = any(name.startswith("img_head.") for name in weights)
    layers = [*(CONVOLUTIONS if sees_images else ()), *FLOATS, *HEADS]
    wanted = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    differing = sorted(wanted - weights.keys()) + sorted(weights.keys() - wanted)
    if differing:
        kinds = "; ".join(f"{name} {'is missing' if name in wanted else 'is unknown'}" for name in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise WeightsError(
            f"these weights are not of the Linesight agent's network: {kinds}{more}; only its plain IQN can be read "
            "(no IMPALA, no layer norm, no noisy layers, no fusion, no PPO)"
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
                f"iqn_fc.0.weight has {num_features} rows, which leaves {num_features - hidden} features of the image; "
                f"images of {listed} give others; say --image HEIGHTxWIDTH"
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
            f"{name} has the shape {tuple(weights[name].shape)} where the other layers ask for {expected[name]}; "
            "is it the whole file of one network?"
        )
    return shape


def linesight_like(shape: LinesightShape, *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights with the names and shapes of the original.

    Args:
        shape: sizes.
        seed: of the numbers.
    """
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
    """Quantile values ``[B, N, A]`` as the original computes them, written down layer by layer.

    Args:
        weights: of the original.
        floats_BF: normalised already.
        fractions_BN: where to look.
        pixels_BCHW: uint8, if it sees images.
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
    """The same tensors under the names of our classic network.

    Args:
        weights: of the original.
    """
    found = {}
    for name, value in weights.items():
        room, _, rest = name.partition(".")
        ours = LAYERS[room]
        if room == "float_feature_extractor" and "img_head.0.weight" not in weights:
            ours = "encoder.layers"
        found[f"{ours}.{rest}"] = value.clone()
    return found


def make_network(shape: LinesightShape, *, normalize: Normalize) -> MLPIQNetwork:
    """Our network of the same architecture.

    Args:
        shape: sizes.
        normalize: the first layer over the floats.
    """
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
    """How far our values are from the original's on fixed inputs, at most, as a share of the values' spread.

    Args:
        network: ours, with the weights.
        weights: of the original.
        shape: sizes.
        num: inputs.
        seed: of the inputs.
    """
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
