"""Vision backbones of the libraries timm and transformers; nothing is ever downloaded.

Shapes: B batch, C channels, H and W pixels, T tokens, M the size of a token, D features.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.lazy import import_extra
from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.layers.activations import Activation
from tm_torchrl.modules.layers.style import Initialization

MOST_NAMED = 3  # missing tensors in a message
KINDS = (  # of transformers, that see images and nothing else; others load parts from elsewhere
    *("vit", "deit", "dinov2", "dinov2_with_registers", "clip_vision_model", "siglip_vision_model", "swin", "swinv2"),
    *("resnet", "regnet", "convnext", "convnextv2", "mobilenet_v2", "efficientnet"),
)
NOT_SIZES = ("model_type", "dtype", "torch_dtype", "transformers_version")


class _Backbone(ImageEncoder):
    """A module of another library; subclasses say how images pass through it."""

    def __init__(self, backbone: nn.Module, *, image_size: int | tuple[int, int], channels: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.backbone = backbone
        was_training = backbone.training
        with torch.no_grad():  # in evaluation mode, since norms of batches learn from what they see
            example = torch.zeros(1, channels, *_edges(image_size))
            backbone.eval()
            self.num_features = int(self.features(example).shape[-1])
            _, self.num_tokens, self._token_size = self.token_features(example).shape
        backbone.train(was_training)

    @property
    def token_size(self) -> int:
        """M."""
        return self._token_size


class TimmEncoder(_Backbone):
    """A backbone of timm over images of the task's own size and channels.

    Convolutional backbones give the mean of their last map, transformers their own pooled features;
    ``fusion="unified"`` reads the places of the map, or the patches.

    Args:
        image_size: H = W, or (H, W).
        channels: The number of channels of the image; timm fits the first layer to it.
        model: The name of a backbone, such as ``"resnet18"`` or ``"vit_tiny_patch16_224"``.
        weights: A file of weights, such as ``model.safetensors``, which timm reads; ``None`` for random ones.
        activation: Not used: a backbone has its own.
        initialization: Not used: a backbone has its own.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 64,
        channels: int = 1,
        model: str,
        weights: str | Path | None = None,
        activation: Activation | None = None,
        initialization: Initialization | None = None,
    ) -> None:
        backbone = _timm_backbone(model, weights, channels, _edges(image_size))
        num_prefix: Any = getattr(backbone, "num_prefix_tokens", 0)  # of a transformer: its class token, ...
        self.num_prefix = int(num_prefix)
        super().__init__(backbone, image_size=image_size, channels=channels)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        features_BD: Tensor = self.backbone(images_BCHW)
        return features_BD

    def token_features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from images in -1..1."""
        backbone: Any = self.backbone
        found: Tensor = backbone.forward_features(images_BCHW)
        return _places(found) if found.ndim == 4 else found[:, self.num_prefix :]


class TransformersEncoder(_Backbone):
    """A backbone of transformers that was saved in a folder, for models that timm lacks.

    Features are the mean over the places of the last map, or the tokens of the last layer; ``fusion="unified"`` reads
    those. Dropout is turned off. A model of images with three channels sees a grey one three times.

    Args:
        image_size: H = W, or (H, W). Transformers interpolate their positions.
        channels: The number of channels of the image.
        folder: Holds ``config.json`` and ``model.safetensors``, as ``hf download NAME --revision COMMIT --local-dir
            FOLDER`` or ``save_pretrained`` leave them.
        activation: Not used: a backbone has its own.
        initialization: Not used: a backbone has its own.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 64,
        channels: int = 1,
        folder: str | Path,
        activation: Activation | None = None,
        initialization: Initialization | None = None,
    ) -> None:
        backbone = _saved_backbone(Path(folder))
        self.options = {}
        if "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters:
            self.options["interpolate_pos_encoding"] = True
        self.repeats = 1
        wanted = getattr(backbone.config, "num_channels", channels)
        if channels != wanted:
            if channels != 1:
                raise ValueError(f"channels={channels}: the model in {folder} wants {wanted}, or 1")
            self.repeats = wanted
        try:
            super().__init__(backbone, image_size=image_size, channels=channels)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            height, width = _edges(image_size)
            raise ValueError(f"folder={folder}: no model for images of {height} x {width} alone: {error}") from error

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        return self.token_features(images_BCHW).mean(1)

    def token_features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from images in -1..1."""
        images_BCHW = images_BCHW.repeat(1, self.repeats, 1, 1)
        found: Tensor = self.backbone(pixel_values=images_BCHW, **self.options).last_hidden_state
        return _places(found) if found.ndim == 4 else found


def _edges(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W)."""
    return image_size if isinstance(image_size, tuple) else (image_size, image_size)


def _places(map_BMHW: Tensor) -> Tensor:
    """``[B, T, M]``, a token for each place."""
    return map_BMHW.flatten(2).transpose(1, 2)


def _timm_backbone(model: str, weights: str | Path | None, channels: int, size: tuple[int, int]) -> nn.Module:
    """The backbone without its classifier, for images of a size if it is made for a fixed one."""
    timm = import_extra("timm")
    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"*{model.split('_')[0]}*")[:5]) or "timm.list_models() has them"
        raise ValueError(f"model={model!r}: timm has no such backbone; there are {near}")
    if weights is not None and Path(weights).suffix != ".safetensors":
        raise ValueError(f"weights={weights}: must be a .safetensors file; other formats can hold programs")
    if weights is not None and not Path(weights).is_file():
        raise ValueError(f"weights={weights}: no such file; download it first, or leave it out for random weights")
    options: dict[str, Any] = {"in_chans": channels, "num_classes": 0, "pretrained": weights is not None}
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        try:
            made: nn.Module = timm.create_model(model, **options, img_size=size)
        except TypeError:  # convolutions take images of any size, and no argument for it
            made = timm.create_model(model, **options)
    except (RuntimeError, AssertionError) as error:
        shape = f"{channels} x {size[0]} x {size[1]}"
        raise ValueError(f"model={model!r}: cannot be made for images of {shape}: {error}") from error
    return made


def _saved_backbone(folder: Path) -> Any:
    """The model in a folder; only sizes and weights are read, so nothing in it is executed or names a download."""
    transformers = import_extra("transformers")
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"folder={folder}: has no {name}; save_pretrained() or hf download --local-dir write it")
    try:
        given = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = given["model_type"]
        if kind not in KINDS:
            raise ValueError(f"model_type={kind!r}: must be one of {', '.join(KINDS)}")
        settings = {name: value for name, value in given.items() if _is_setting(name, value)}
        config = transformers.AutoConfig.for_model(kind, **settings)
        for name, value in vars(config).items():
            if "drop" in name and isinstance(value, float):
                setattr(config, name, 0.0)
        model_class = type(transformers.AutoModel.from_config(config))
        weights = import_extra("safetensors.torch").load_file(folder / "model.safetensors")
        model, info = model_class.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
    except Exception as error:  # of any class, from a file of anybody
        raise ValueError(f"folder={folder}: cannot be read: {error}") from error
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith("pooler.")):  # which is not used
        names = ", ".join(missing[:MOST_NAMED])
        raise ValueError(
            f"folder={folder}: model.safetensors has no {names}{', ...' if len(missing) > MOST_NAMED else ''}, so they "
            "would be random; it must be of the model that config.json describes"
        )
    return model.float()  # whatever precision it was saved in


def _is_setting(name: str, value: Any) -> bool:
    """Whether an entry of ``config.json`` is a size or a choice; others can name programs and places to load from."""
    is_plain = isinstance(value, (int, float, str)) or (isinstance(value, list) and all(map(_is_number, value)))
    return is_plain and not name.startswith("_") and "implementation" not in name and name not in NOT_SIZES


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
