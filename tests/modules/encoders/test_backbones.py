"""Backbones of timm: small models, made here, without downloads."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.modules.fusion.test_fusion import KEYS, options
from tests.modules.test_matrix import make_batch, small
from tm_torchrl.modules import TimmEncoder


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("fusion", ["none", "unified"])
@pytest.mark.parametrize("edge", [64])
def test_backbones_learn(timm: Any, model: str, fusion: str, edge: int) -> None:
    given = {**options(fusion, partial(TimmEncoder, model=model)), "image_shape": (1, edge, edge)}
    network = small("iqn", frozen=["vision"], **given)
    batch = make_batch(KEYS, edge=edge)
    assert network(*(batch[key] for key in KEYS)).shape == (4, 3, 4)
    encoder: Any = network.encoder.pixels
    assert encoder.tokens(batch["pixels"]).shape == (4, encoder.num_tokens, encoder.token_size)
    assert encoder.num_tokens == {"test_vit": 16, "test_resnet": 4}[model], "patches of 16, or a map of 64 / 32"
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    network.train()
    network(*(batch[key] for key in KEYS)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()), "norms of batches"


def test_weights_from_a_file(timm: Any, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    model = timm.create_model("test_resnet", in_chans=3)
    library.save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = TimmEncoder(model="test_resnet", weights=tmp_path / "model.safetensors")
    ours, theirs = encoder.backbone.state_dict(), model.state_dict()
    same = [key for key in ours if torch.equal(ours[key], theirs[key])]
    assert len(same) == len(ours) - 1, "all but the first layer, which sums up three channels"


def test_models_that_cannot_be(timm: Any) -> None:
    with pytest.raises(ValueError, match="model='resnet_18': timm has no such"):
        TimmEncoder(model="resnet_18")
    for weights in ("nowhere.safetensors", "pickled.pth"):  # others can hold programs
        with pytest.raises(ValueError, match=f"weights={weights}"):
            TimmEncoder(model="test_resnet", weights=weights)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        TimmEncoder(model="resnet18")
