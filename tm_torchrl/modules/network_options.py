"""Options of a network that belong together, and the encoder, trunk and decoder that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.cores.mamba import Mamba
from tm_torchrl.modules.cores.recurrent import GRU, LSTM
from tm_torchrl.modules.encoders.floats import FloatEncoder, Normalize
from tm_torchrl.modules.encoders.multi import PixelFloatEncoder
from tm_torchrl.modules.fusion.fusion import FUSIONS, Floats, Fusion
from tm_torchrl.modules.layers.arguments import maker, require_count, require_sizes
from tm_torchrl.modules.layers.style import LayerStyle
from tm_torchrl.modules.quantiles.decoder import Decoder, DuelingDecoder, Mixer, NoisyValue, Stream

ModuleMaker = Callable[..., nn.Module]
FusionMaker = Callable[..., Fusion]
CORES: dict[str, Callable[..., Core]] = {"gru": GRU, "lstm": LSTM, "mamba": Mamba}


@dataclass(frozen=True)
class Observations:
    """What a network sees, up to its features. The fields are arguments of the networks, where they are described."""

    num_inputs: int | None
    hidden_sizes: Sequence[int]
    normalize: Normalize | None
    image: ModuleMaker | None
    image_shape: Sequence[int] | None
    trunk: ModuleMaker | None
    core: Callable[..., Core] | str | None = None
    fusion: FusionMaker | str | None = None

    def make_image_encoder(self, style: LayerStyle) -> nn.Module | None:
        """The encoder of images; ``None`` where there are none."""
        if self.image is None and self.image_shape is not None:
            raise ValueError(
                f"image_shape={tuple(self.image_shape)}: the network has no encoder for images; give "
                "image=PixelEncoder or ImpalaEncoder (network=classic, impala or btr), or leave the images out "
                "(env.pixels=false)"
            )
        if self.image is None:
            if self.num_inputs is None:
                raise ValueError("num_inputs=None, image=None: the network sees nothing; give one of them")
            return None
        if self.image_shape is None:
            raise ValueError(
                "image_shape=None: there are no images for the image encoder; give their shape (env.pixels=true), or "
                "image=None (network=mlp)"
            )
        if len(self.image_shape) != 3:
            raise ValueError(f"image_shape={tuple(self.image_shape)}: must be (channels, height, width)")
        channels, height, width = self.image_shape
        size = height if height == width else (height, width)
        made: nn.Module = maker(self.image, {}, argument="image")(
            image_size=size, channels=channels, activation=style.activation, initialization=style.initialization
        )
        own = getattr(made, "image_size", size)
        if own != size:
            raise ValueError(f"image_size={own}: the images are {height} x {width}; leave it out")
        return made

    def count_features(self, pixels: nn.Module | None) -> int:
        """D, before the encoder is made."""
        of_pixels = 0 if pixels is None else int(pixels.num_features)  # type: ignore[arg-type]
        if self.num_inputs is None:
            return of_pixels
        require_sizes(self.hidden_sizes, argument="hidden_sizes")
        return of_pixels + self.hidden_sizes[-1]

    def make_encoder(self, pixels: nn.Module | None, style: LayerStyle) -> nn.Module:
        """The encoder of images, floats, or both."""
        if self.num_inputs is None:
            assert pixels is not None
            if self.normalize is not None:
                raise ValueError("normalize: there are no floats to normalise; leave it out, or give num_inputs")
            return pixels
        floats = FloatEncoder(
            self.num_inputs, hidden_sizes=self.hidden_sizes, normalize=self.normalize, style=style.plain
        )
        return floats if pixels is None else PixelFloatEncoder(pixels, floats)

    def make_fusion(self, pixels: nn.Module | None, style: LayerStyle) -> Fusion | None:
        """The encoder of images and floats in one body; ``None`` for encoders of their own."""
        if self.fusion is None:
            return None
        make = maker(self.fusion, FUSIONS, argument="fusion")
        if pixels is None or self.num_inputs is None:
            named = self.fusion if isinstance(self.fusion, str) else getattr(make, "__name__", "...")
            seen, lacking = ("images", "floats") if self.num_inputs is None else ("floats", "images")
            raise ValueError(
                f"fusion={named}: needs images and floats, and there are no {lacking}; use fusion=None "
                f"(objective.network.fusion=null), which reads {seen} alone, or env.pixels=true env.floats=true with "
                "an image encoder"
            )
        floats = Floats(self.num_inputs, self.hidden_sizes, self.normalize)
        made: Fusion = make(pixels, floats=floats, style=style.plain)
        return made

    def make_trunk(self, num_features: int, style: LayerStyle) -> nn.Module | None:
        """The module between encoder and head; ``None`` for none."""
        if self.trunk is None:
            return None
        made: nn.Module = maker(self.trunk, {}, argument="trunk")(
            num_features, activation=style.activation, initialization=style.initialization
        )
        return made

    def make_core(self, num_features: int) -> Core | None:
        """The memory between trunk and head; ``None`` for none."""
        if self.core is None:
            return None
        made = maker(self.core, CORES, argument="core")(num_features)
        if not isinstance(made, Core):
            raise TypeError(f"core={type(made).__name__}: must be a core, such as GRU, LSTM or Mamba")
        return made


@dataclass(frozen=True)
class Actions:
    """What a network decides, and how. The fields are arguments of the networks, where they are described."""

    num_actions: int
    head_size: int | None
    num_slots: int | None
    mixer: Mixer | None
    dueling: bool
    noisy_value: NoisyValue
    value_per_slot: bool
    advantage_stream: Stream = "mlp"
    value_stream: Stream = "mlp"

    def make_decoder(self, num_features: int, style: LayerStyle, *, num_outputs: int | None) -> Decoder:
        """A decoder with or without value and advantage streams."""
        for name in ("noisy_value", "value_per_slot"):
            if getattr(self, name) and not self.dueling:
                raise ValueError(f"{name}=True: without dueling streams there is no value; leave it out")
        if self.value_stream != "mlp" and not self.dueling:
            raise ValueError("value_stream: without dueling streams there is no value; leave it at 'mlp'")
        if self.head_size is not None:
            require_count(self.head_size, argument="head_size")
        dueling = partial(
            DuelingDecoder,
            noisy_value=self.noisy_value,
            value_per_slot=self.value_per_slot,
            value_stream=self.value_stream,
        )
        return (dueling if self.dueling else Decoder)(
            num_features,
            self.num_actions,
            num_slots=self.num_slots,
            num_outputs=num_outputs,
            hidden_size=self.head_size,
            style=style,
            mixer=self.mixer,
            advantage_stream=self.advantage_stream,
        )
