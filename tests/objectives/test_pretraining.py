"""The losses of visual pretraining, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from tm_torchrl.modules import PixelEncoder, VisionNetwork
from tm_torchrl.objectives import AutoencoderLoss, SimCLRLoss, VAELoss
from tm_torchrl.objectives.pretraining import gaussian_kl, nt_xent

SHAPE = (1, 34, 34)
EVERY_LOSS = [AutoencoderLoss, VAELoss, SimCLRLoss]


def loss_of(kind: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(VisionNetwork(PixelEncoder, image_shape=SHAPE), image_shape=SHAPE, **options)


def grey(*levels: int) -> TensorDict:
    """Images of one level each."""
    pixels = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    return TensorDict({"pixels": pixels.contiguous()}, [len(levels)])


def zeroed(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def test_nt_xent_by_hand() -> None:
    """Two images whose views are equal, at a right angle: a cosine of 1 against two of 0, so -log(e / (e + 2))."""
    views = torch.tensor([[3.0, 0.0], [0.0, 0.5]])  # lengths do not count
    assert float(nt_xent(views, views, temperature=1.0)) == pytest.approx(math.log(1 + 2 / math.e))
    assert float(nt_xent(views, views, temperature=0.5)) == pytest.approx(math.log(1 + 2 / math.e**2))


def test_nt_xent_of_views_that_are_swapped_by_hand() -> None:
    """The other view of each image is at a right angle, and one wrong image has a cosine of 1: log(e + 2)."""
    first, second = torch.eye(2), torch.eye(2).flip(0)
    assert float(nt_xent(first, second, temperature=1.0)) == pytest.approx(math.log(math.e + 2))


def test_nt_xent_does_not_care_about_order() -> None:
    first, second = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    swapped = nt_xent(second.flip(0), first.flip(0), temperature=0.5)
    assert float(nt_xent(first, second, temperature=0.5)) == pytest.approx(float(swapped))


def test_the_divergence_by_hand() -> None:
    """Of N(1, 4): (1 + 4 - 1 - log 4) / 2; summed over two equal latent numbers."""
    found = gaussian_kl(torch.tensor([[1.0, 1.0]]), torch.tensor([[math.log(4.0), math.log(4.0)]]))
    assert found.tolist() == pytest.approx([4.0 - math.log(4.0)])


def test_an_autoencoder_that_says_nothing_by_hand() -> None:
    """It answers 0 everywhere; levels of 128 and 192 are 0 and 0.5, so squared errors of 0 and 0.25."""
    loss = loss_of(AutoencoderLoss)
    zeroed(loss.decoder)
    assert float(loss(grey(128, 192))["loss"].detach()) == pytest.approx(0.125)
    assert loss.reconstructed(grey(1)["pixels"]).shape == (1, *SHAPE)  # 8 does not divide 34


def test_a_variational_autoencoder_that_says_nothing_by_hand() -> None:
    """Means of 1 and variances of 1 for each of 3 latent numbers: a divergence of 3 / 2, times the weight."""
    loss = loss_of(VAELoss, num_latents=3, kl_weight=0.1)
    zeroed(loss.decoder)
    zeroed(loss.moments)
    nn.init.ones_(loss.moments.bias[:3])
    found = loss(grey(192))
    assert float(found["loss_reconstruction"]) == pytest.approx(0.25)
    assert float(found["loss_kl"]) == pytest.approx(0.15)


def test_a_reconstruction_has_no_noise() -> None:
    loss, pixels = loss_of(VAELoss), grey(10, 200)["pixels"]
    assert torch.equal(loss.reconstructed(pixels), loss.reconstructed(pixels))


def test_views_are_the_image_and_a_later_one() -> None:
    """Without shifts and later images both views are equal; a later image is the other view."""
    loss = loss_of(SimCLRLoss, shift=0, temperature=1.0)
    batch = grey(30, 220)
    project = loss.projection(loss.network(batch["pixels"]))
    assert float(loss(batch)["loss"]) == pytest.approx(float(nt_xent(project, project, temperature=1.0)))
    later = batch.clone().set("positive", batch["pixels"].flip(0))
    assert float(loss(later)["loss"]) == pytest.approx(float(nt_xent(project, project.flip(0), temperature=1.0)))


def test_both_views_are_shifted_apart() -> None:
    loss = loss_of(SimCLRLoss, shift=4)
    pixels = torch.arange(34, dtype=torch.uint8).expand(20, *SHAPE).contiguous()
    shifts = loss._shifted(pixels)[:, 0, 17, 17].int() - 17
    assert set(shifts.tolist()) <= set(range(-4, 5)) and len(set(shifts.tolist())) > 2


@pytest.mark.parametrize("kind", EVERY_LOSS)
def test_every_weight_learns(kind: Any) -> None:
    loss = loss_of(kind)
    images = TensorDict({"pixels": torch.randint(256, (8, *SHAPE), dtype=torch.uint8)}, [8])
    sum(loss(images).values()).backward()
    assert list(loss(images)) == list(loss.out_keys)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in loss.parameters())
    (group,) = loss.parameter_groups()
    assert len(group["params"]) == len(list(loss.parameters()))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (VAELoss, "kl_weight", -1.0),
        (VAELoss, "num_latents", 0),
        (SimCLRLoss, "temperature", 0.0),
        (SimCLRLoss, "shift", 34),
        (SimCLRLoss, "projection_size", 0),
        (AutoencoderLoss, "width", 0),
    ],
)
def test_wrong_arguments(kind: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        loss_of(kind, **{name: value})
