"""Vision backbones of the timm library, with or without trained weights.

Shapes: B batch, C channels, H and W pixels, T tokens, M the size of a token, D features.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.modules.layers.activations import Activation
from tm_torchrl.modules.layers.style import Initialization


class TimmEncoder(ImageEncoder):
    """A backbone of timm over images of the task's own size and channels; nothing is ever downloaded.

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
        super().__init__()
        self.image_size = image_size
        size = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        self.backbone = _make_backbone(model, weights, channels, size)
        self.num_prefix: int = getattr(self.backbone, "num_prefix_tokens", 0)  # of a transformer: its class token, ...
        was_training = self.backbone.training
        with torch.no_grad():  # in evaluation mode, since norms of batches learn from what they see
            example = torch.zeros(1, channels, *size)
            self.backbone.eval()
            self.num_features = int(self.backbone(example).shape[-1])
            tokens = self._tokens(example)
        self.backbone.train(was_training)
        self.num_tokens = int(tokens.shape[1])
        self._token_size = int(tokens.shape[2])

    @property
    def token_size(self) -> int:
        """M."""
        return self._token_size

    def features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, D]`` from images in -1..1."""
        features_BD: Tensor = self.backbone(images_BCHW)
        return features_BD

    def token_features(self, images_BCHW: Tensor) -> Tensor:
        """``[B, T, M]`` from images in -1..1."""
        return self._tokens(images_BCHW)

    def _tokens(self, images_BCHW: Tensor) -> Tensor:
        backbone: Any = self.backbone
        found: Tensor = backbone.forward_features(images_BCHW)
        return found.flatten(2).transpose(1, 2) if found.ndim == 4 else found[:, self.num_prefix :]


def _make_backbone(model: str, weights: str | Path | None, channels: int, size: tuple[int, int]) -> nn.Module:
    """The backbone without its classifier, for images of a size if it is made for a fixed one."""
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ModuleNotFoundError('timm is not installed: pip install "tm_torchrl[vision]"', name="timm") from None
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
