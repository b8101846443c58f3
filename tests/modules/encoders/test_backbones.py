"""Backbones of timm and transformers: small models, made here, without downloads."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.modules.fusion.test_fusion import KEYS, options
from tests.modules.test_matrix import make_batch, small
from tm_torchrl.modules import TimmEncoder, TransformersEncoder


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


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """Folders with a transformer for images of 32 pixels, with dropout, and with a convolutional network."""
    library = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    configs = {
        "vit": library.ViTConfig(**size, image_size=32, patch_size=8, hidden_dropout_prob=0.5),
        "resnet": library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1]),
        "bert": library.BertConfig(**size, vocab_size=20),
    }
    for name, config in configs.items():
        library.AutoModel.from_config(config).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in configs}


@pytest.mark.parametrize("model", ["vit", "resnet"])
@pytest.mark.parametrize("fusion", ["none", "unified"])
def test_saved_models_learn(saved: dict[str, Path], model: str, fusion: str) -> None:
    image = partial(TransformersEncoder, folder=saved[model])
    network = small("iqn", **{**options(fusion, image), "image_shape": (1, 64, 64)})
    batch = make_batch(KEYS, edge=64)
    encoder: Any = network.encoder.pixels
    network.train()
    if model == "vit":  # the other has norms of batches
        torch.testing.assert_close(encoder(batch["pixels"]), encoder(batch["pixels"]), msg="dropout")
    assert encoder.num_tokens == {"vit": 65, "resnet": 64}[model], "patches of 8 and the class, or a map of 64 / 8"
    assert encoder.token_size == encoder.num_features == {"vit": 16, "resnet": 12}[model]
    network(*(batch[key] for key in KEYS)).sum().backward()
    used = [value for name, value in encoder.named_parameters() if "pooler" not in name and "mask" not in name]
    assert used and all(value.grad is not None for value in used)


def test_saved_weights_and_colours(saved: dict[str, Path]) -> None:
    encoder = TransformersEncoder(folder=saved["vit"], channels=1, image_size=32).eval()
    theirs: Any = pytest.importorskip("transformers").AutoModel.from_pretrained(saved["vit"])
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        wanted = theirs(pixel_values=grey.repeat(1, 3, 1, 1)).last_hidden_state
        torch.testing.assert_close(encoder.token_features(grey), wanted)
        torch.testing.assert_close(encoder.features(grey), wanted.mean(1))
    with pytest.raises(ValueError, match="channels=2"):
        TransformersEncoder(folder=saved["vit"], channels=2)


def test_weights_of_half_precision_are_float32_here(saved: dict[str, Path]) -> None:
    library = pytest.importorskip("transformers")
    library.AutoModel.from_pretrained(saved["vit"]).half().save_pretrained(saved["vit"])
    assert TransformersEncoder(folder=saved["vit"]).features(torch.zeros(1, 1, 64, 64)).dtype == torch.float32


def test_folders_that_cannot_be(saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder=.*nowhere: has no config\.json"):
        TransformersEncoder(folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"folder=.*bert: .*model_type='bert': must be one of vit"):
        TransformersEncoder(folder=saved["bert"])
    whole = (saved["vit"] / "model.safetensors").read_bytes()
    for weights, message in (
        ((saved["resnet"] / "model.safetensors").read_bytes(), "has no embeddings.*would be random"),
        (whole[:500], "cannot be read"),
    ):
        (saved["vit"] / "model.safetensors").write_bytes(weights)
        with pytest.raises(ValueError, match=rf"folder=.*vit: .*{message}"):
            TransformersEncoder(folder=saved["vit"])
    (saved["vit"] / "model.safetensors").rename(saved["vit"] / "pytorch_model.bin")  # could hold programs
    with pytest.raises(ValueError, match=r"folder=.*vit: has no model\.safetensors"):
        TransformersEncoder(folder=saved["vit"])


@pytest.mark.parametrize(
    "kind",
    [
        {"model_type": "ours", "auto_map": {"AutoConfig": "model.C", "AutoModel": "model.M"}},
        {"model_type": "timm_wrapper", "architecture": "hf-hub:someone/model"},  # goes to the network
        {"model_type": "mask2former", "backbone": "someone/model", "use_pretrained_backbone": True},
        {},
    ],
)
def test_models_that_load_parts_from_elsewhere_are_refused(saved: dict[str, Path], kind: dict[str, Any]) -> None:
    (saved["resnet"] / "model.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    (saved["resnet"] / "config.json").write_text(json.dumps(kind), encoding="utf-8")
    with pytest.raises(ValueError, match=r"folder=.*resnet: cannot be read: .*model_type"):
        TransformersEncoder(folder=saved["resnet"])


def test_only_sizes_are_read(saved: dict[str, Path]) -> None:
    path = saved["vit"] / "config.json"
    given = json.loads(path.read_text(encoding="utf-8"))
    wanted = TransformersEncoder(folder=saved["vit"]).backbone.config
    named = {"_attn_implementation": "kernels-community/x", "attn_implementation": "kernels-community/x"}
    other = {"quantization_config": {"quant_method": "bitsandbytes"}, "auto_map": {"AutoModel": "model.M"}}
    path.write_text(json.dumps({**given, **named, **other, "return_dict": True}), encoding="utf-8")
    (saved["vit"] / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}', encoding="utf-8")
    found = TransformersEncoder(folder=saved["vit"]).backbone.config
    assert found._attn_implementation == wanted._attn_implementation
    assert found.to_dict() == wanted.to_dict()


def test_without_transformers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        TransformersEncoder(folder=tmp_path)
