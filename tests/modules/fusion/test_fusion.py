"""Fusion of images and floats: every part learns, policies have the same body, what cannot be is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torchrl.data import Categorical

from tests.modules.test_matrix import learn, make_batch, small
from tm_torchrl.agents.export import GreedyPolicy
from tm_torchrl.modules import (
    FloatEncoder,
    ImpalaEncoder,
    MLPIQNetwork,
    Normalize,
    PolicyValueNetwork,
    PostConcat,
    QuantileActor,
    SmallPixelEncoder,
    Unified,
    ViTEncoder,
)

KEYS = ["pixels", "observation"]
GROUPS = {"speed": 1, "velocity": 2}  # and one float behind them
VIT = partial(ViTEncoder, patch_size=8, size=8, num_layers=1, num_heads=2)
CNN = partial(ImpalaEncoder, pooling="max", pool_size=2)
TOKENS: dict[str, Any] = {"size": 8, "num_layers": 1, "num_heads": 2}
FUSIONS: dict[str, Any] = {
    "none": None,
    "post_concat": partial(PostConcat, **TOKENS),
    "post_concat-one-raw": partial(PostConcat, float_tokens="one", floats_through="raw", image_tokens=1, **TOKENS),
    "post_concat-mlp": partial(PostConcat, trunk="mlp", size=8),
    "post_concat-mlp-raw": partial(PostConcat, trunk="mlp", size=8, floats_through="raw"),
    "unified": partial(Unified, **TOKENS),
    "unified-one-mlp": partial(Unified, float_tokens="one", floats_through="mlp", **TOKENS),
}


def normalize() -> Normalize:
    return Normalize([0.0] * 4, [1.0] * 4, groups=GROUPS)


def options(fusion: str, image: Any = VIT) -> dict[str, Any]:
    return {"image": image, "image_shape": (1, 16, 16), "normalize": normalize(), "fusion": FUSIONS[fusion]}


@pytest.mark.parametrize("image", [VIT, CNN], ids=["vit", "cnn"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns(fusion: str, image: Any) -> None:
    network = small("iqn", activation="gelu", **options(fusion, image))
    learn("iqn", network, KEYS)
    single = make_batch(KEYS)[0]
    assert network.act(*(single[key].expand(2, 5, *single[key].shape) for key in KEYS)).shape == (2, 5)


@pytest.mark.parametrize("family", ["fqf", "qrdqn", "nq"])
def test_all_families_have_the_body(family: str) -> None:
    learn(family, small(family, activation="gelu", **options("unified")), KEYS)


def test_tokens_of_groups() -> None:
    """Floats 0, 1 and 2, 3: of four tokens of an image and three groups seven are read, and one more for all."""
    network = small("iqn", **options("post_concat"))
    encoder: Any = network.encoder
    assert encoder.floats.sizes == [1, 2, 1]
    batch = make_batch(KEYS)
    assert encoder.floats(batch["observation"]).shape == (4, 3, 8)
    assert encoder.fusion.image_tokens(encoder.pixels(batch["pixels"])).shape == (4, 4, 8)
    before = encoder.floats(batch["observation"])
    batch["observation"][:, 1] += 1.0  # the first number of "velocity"
    changed = (encoder.floats(batch["observation"]) != before).any(-1)
    assert changed[0].tolist() == [False, True, False]


def test_groups_that_are_seen_in_part() -> None:
    assert Normalize([0.0] * 4, [1.0] * 4, groups=GROUPS, columns=[2, 3]).seen_groups == {"velocity": 1, "others": 1}
    assert Normalize([0.0] * 4, [1.0] * 4).seen_groups == {}


def test_image_tokens_are_patches_in_order() -> None:
    """A brighter lower right quarter of 16 x 16 pixels is the last of four patches of 8 x 8."""
    encoder = ViTEncoder(image_size=16, patch_size=8, size=8, num_layers=0)
    pixels = torch.full((1, 1, 16, 16), 128, dtype=torch.uint8)
    before = encoder.tokens(pixels)
    pixels[..., 8:, 8:] = 255
    changed = (encoder.tokens(pixels) != before).any(-1)
    assert changed.tolist() == [[False, False, False, True]]


def test_tokens_of_a_map_are_its_places() -> None:
    encoder = CNN(image_size=16)
    batch = make_batch(["pixels"])
    tokens, features = encoder.tokens(batch["pixels"]), encoder(batch["pixels"])
    assert (encoder.num_tokens, encoder.token_size, encoder.num_features) == (4, 32, 128)
    assert torch.equal(tokens[:, 3], features.reshape(4, 32, 2, 2)[:, :, 1, 1])


@pytest.mark.parametrize("fusion", ["none", "post_concat", "unified"])
def test_the_same_numbers_in_training_and_evaluation(fusion: str) -> None:
    network = small("qrdqn", **options(fusion))
    batch = make_batch(KEYS)
    seen = [batch[key] for key in KEYS]
    with torch.no_grad():
        assert torch.equal(network.train()(*seen), network.eval()(*seen))


@pytest.mark.parametrize("fusion", ["none", "post_concat", "post_concat-mlp", "unified"])
def test_actor_and_critic_have_the_same_body(fusion: str) -> None:
    of_values = MLPIQNetwork(4, 3, hidden_sizes=(8,), **options(fusion))
    of_policy = PolicyValueNetwork(4, 3, hidden_sizes=(8,), **options(fusion))
    shapes = [{key: value.shape for key, value in each.encoder.state_dict().items()} for each in (of_values, of_policy)]
    assert shapes[0] == shapes[1]
    batch = make_batch(KEYS)
    logits, value = of_policy(*(batch[key] for key in KEYS))
    assert (logits.shape, value.shape) == ((4, 3), (4, 1))
    (logits.square().sum() + value.sum()).backward()
    assert [name for name, each in of_policy.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize("fusion", ["post_concat", "unified"])
def test_export(fusion: str) -> None:
    policy = GreedyPolicy(QuantileActor(small("iqn", **options(fusion)), spec=Categorical(3), in_keys=KEYS)).eval()
    states, others = (tuple(make_batch(KEYS, size=size)[key] for key in KEYS) for size in (8, 5))
    rows = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(policy, states, dynamic_shapes=(tuple({0: rows} for _ in states),)).module()
    assert torch.equal(program(*others), policy(*others))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"fusion": "unifed"}, "fusion='unifed': unknown; did you mean unified?"),
    ({"image": None, "image_shape": None}, "fusion=unified: needs images and floats, and there are no images"),
    ({"num_inputs": None, "normalize": None}, "fusion=unified: needs images and floats, and there are no floats"),
    ({"normalize": None, "fusion": partial(Unified, float_tokens="groups")}, "float_tokens='groups'"),
    ({"fusion": partial(Unified, float_tokens="group")}, "float_tokens='group': unknown"),
    ({"fusion": partial(Unified, floats_through="linear")}, "floats_through='linear': unknown"),
    ({"fusion": partial(Unified, num_heads=3)}, "num_heads=3: must divide the size of a token, 128"),
    ({"fusion": partial(Unified, num_layers=0)}, "num_layers=0"),
    ({"fusion": partial(PostConcat, trunk="conv")}, "trunk='conv': unknown"),
    ({"fusion": partial(PostConcat, trunk="mlp", image_tokens=4)}, "image_tokens=4: trunk='mlp' has no tokens"),
    ({"fusion": partial(PostConcat, image_tokens=0)}, "image_tokens=0"),
    ({"image": partial(ViTEncoder, patch_size=7)}, "patch_size=7: must divide the image, 16 x 16; give one of 2, 4, 8"),
    ({"image": partial(ViTEncoder, num_heads=5)}, "num_heads=5"),
    ({"image": SmallPixelEncoder, "image_shape": (1, 64, 64)}, "image=SmallPixelEncoder: makes 3844 tokens"),
    ({"image": lambda **_: FloatEncoder(4)}, "image=FloatEncoder: fusion='unified' reads tokens"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_fusions_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    given = {"num_inputs": 4, "num_actions": 2, **options("none"), "fusion": "unified", **changes}
    for network in (MLPIQNetwork, PolicyValueNetwork):
        with pytest.raises(ValueError, match="=") as caught:
            network(**given)
        assert str(caught.value).startswith(message)
