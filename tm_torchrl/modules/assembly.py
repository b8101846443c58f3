"""The parts of a network, made from its arguments and checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from tm_torchrl.modules.encoders.encoders import FloatEncoder, Normalize, PixelFloatEncoder
from tm_torchrl.modules.layers.activations import Activation
from tm_torchrl.modules.layers.choices import maker, require_count, require_sizes
from tm_torchrl.modules.layers.dense import Initialization, LinearLayer
from tm_torchrl.modules.quantiles.decoder import Decoder, DuelingDecoder, Mixer

ModuleMaker = Callable[..., nn.Module]


def make_image_encoder(
    image: ModuleMaker | None,
    image_shape: Sequence[int] | None,
    *,
    num_inputs: int | None,
    activation: Activation,
    initialization: Initialization | None,
) -> nn.Module | None:
    """The encoder of images that was asked for, for the images that there are."""
    if image is None and image_shape is not None:
        raise ValueError(
            f"image_shape={tuple(image_shape)}: nothing sees these images; give image=PixelEncoder or ImpalaEncoder "
            "(network=classic, impala or btr), or leave them out (env.pixels=false)"
        )
    if image is None:
        if num_inputs is None:
            raise ValueError("num_inputs=None, image=None: the network sees nothing; give one of them")
        return None
    if image_shape is None:
        raise ValueError(
            "image_shape=None: there are no images for the image encoder; give their shape (env.pixels=true), or "
            "image=None (network=mlp)"
        )
    if len(image_shape) != 3:
        raise ValueError(f"image_shape={tuple(image_shape)}: (channels, height, width) wanted")
    channels, height, width = image_shape
    size = height if height == width else (height, width)
    made: nn.Module = maker(image, {}, argument="image")(
        image_size=size, channels=channels, activation=activation, initialization=initialization
    )
    own = getattr(made, "image_size", size)
    if own != size:
        raise ValueError(f"image_size={own}: the images are {height} x {width}; leave it out, it follows them")
    return made


def count_features(pixels: nn.Module | None, num_inputs: int | None, hidden_sizes: Sequence[int]) -> int:
    """D of an encoder that is still to be made."""
    of_pixels = 0 if pixels is None else int(pixels.num_features)  # type: ignore[arg-type]
    if num_inputs is None:
        return of_pixels
    require_sizes(hidden_sizes, argument="hidden_sizes")
    return of_pixels + hidden_sizes[-1]


def make_encoder(
    pixels: nn.Module | None,
    num_inputs: int | None,
    *,
    hidden_sizes: Sequence[int],
    normalize: Normalize | None,
    layer_norm: bool,
    activation: Activation,
    initialization: Initialization | None,
) -> nn.Module:
    """Of images, floats, or both."""
    if num_inputs is None:
        assert pixels is not None
        if normalize is not None:
            raise ValueError("normalize: there are no floats to normalise; leave it out, or give num_inputs")
        return pixels
    floats = FloatEncoder(
        num_inputs,
        hidden_sizes=hidden_sizes,
        normalize=normalize,
        layer_norm=layer_norm,
        activation=activation,
        initialization=initialization,
    )
    return floats if pixels is None else PixelFloatEncoder(pixels, floats)


def make_decoder(
    num_features: int,
    num_actions: int,
    *,
    dueling: bool,
    num_slots: int | None,
    hidden_size: int | None,
    layer_norm: bool,
    linear: LinearLayer,
    plain_value_output: bool,
    activation: Activation,
    initialization: Initialization | None,
    mixer: Mixer | None,
    value_per_slot: bool,
    num_outputs: int | None = None,
) -> Decoder:
    """With or without value and advantage streams."""
    if plain_value_output and not dueling:
        raise ValueError("plain_value_output=True: without dueling streams there is no value output; leave it out")
    if value_per_slot and not dueling:
        raise ValueError("value_per_slot=True: without dueling streams there is no value; leave it out")
    if hidden_size is not None:
        require_count(hidden_size, argument="head_size")
    dueling_decoder = partial(DuelingDecoder, plain_value_output=plain_value_output, value_per_slot=value_per_slot)
    return (dueling_decoder if dueling else Decoder)(
        num_features,
        num_actions,
        num_slots=num_slots,
        num_outputs=num_outputs,
        hidden_size=hidden_size or 1,
        num_hidden_layers=0 if hidden_size is None else 1,
        layer_norm=layer_norm,
        linear=linear,
        activation=activation,
        initialization=initialization,
        mixer=mixer,
    )


def make_trunk(
    trunk: ModuleMaker | None, num_features: int, activation: Activation, initialization: Initialization | None
) -> nn.Module | None:
    """What stands behind the encoder."""
    if trunk is None:
        return None
    made: nn.Module = maker(trunk, {}, argument="trunk")(
        num_features, activation=activation, initialization=initialization
    )
    return made
