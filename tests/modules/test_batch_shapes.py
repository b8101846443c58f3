"""Batch dimensions are those of the observation, however a module is called; images of any shape and under vmap."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Categorical
from torchrl.modules import QValueActor, ValueOperator
from torchrl.objectives.value import GAE

from tests.modules.quantiles.test_network import every_network, small
from tm_torchrl.modules import (
    Decoder,
    FixedHead,
    ImpalaEncoder,
    MLPQRNetwork,
    PixelEncoder,
    QuantileActor,
    QuantileModule,
    QuantileNetwork,
    SmallPixelEncoder,
)

OBSERVATION = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
Call = Callable[[TensorDictModuleBase, Tensor], Any]


def outputs(module: TensorDictModuleBase, tensordict: TensorDict) -> list[Tensor]:
    return [tensordict[key] for key in module.out_keys]


CALLS: dict[str, Call] = {
    "keyword": lambda module, seen: module(observation=seen),
    "position": lambda module, seen: module(seen),
    "sequential": lambda module, seen: TensorDictSequential(module)(observation=seen),
    "no batch size": lambda module, seen: outputs(module, module(TensorDict({"observation": seen}))),
    "a short one": lambda module, seen: outputs(module, module(TensorDict({"observation": seen}, seen.shape[:-1][:1]))),
    "another tensordict": lambda module, seen: outputs(
        module, module(TensorDict({"observation": seen}), tensordict_out=TensorDict())
    ),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
@every_network
@pytest.mark.parametrize("num_slots", [None, 2])
def test_any_call_gives_what_a_full_tensordict_gives(
    call: Call, network_class: type[QuantileNetwork], num_slots: int | None
) -> None:
    network = small(network_class, num_slots=num_slots)
    slots = () if num_slots is None else (num_slots,)
    shapes = {"fractions": (6,), "fraction_edges": (7,), "quantile_values": (6, *slots, 3), "action": slots}
    shapes |= {"action_value": (*slots, 3), "chosen_action_value": (*slots, 1)}
    for module in (QuantileActor(network, spec=Categorical(3, shape=slots)), QuantileModule(network)):
        for seen in (OBSERVATION, OBSERVATION[:, 0], OBSERVATION[0, 0]):
            torch.manual_seed(0)
            expected = module(TensorDict({"observation": seen}, seen.shape[:-1]))
            torch.manual_seed(0)
            for key, value in zip(module.out_keys, call(module, seen), strict=True):
                assert value.shape == (*seen.shape[:-1], *shapes[key])
                assert torch.equal(value, expected[key])


@every_call
def test_shapes_are_those_of_torchrl(call: Call) -> None:
    control = QValueActor(nn.Linear(4, 3), spec=Categorical(3))
    expected = dict(zip(control.out_keys, call(control, OBSERVATION), strict=True))
    actor = QuantileActor(small(MLPQRNetwork), spec=Categorical(3))
    for key, value in zip(actor.out_keys, call(actor, OBSERVATION), strict=True):
        assert value.shape == expected[key].shape


def test_an_encoder_that_does_not_say_its_dimensions_is_believed_to_read_vectors() -> None:
    network = QuantileNetwork(nn.Linear(4, 16), FixedHead(Decoder(16, 3, num_outputs=6)))
    actor = QuantileActor(network, spec=Categorical(3))
    assert actor(observation=OBSERVATION)[0].shape == (5, 2)
    with pytest.raises(ValueError, match=r"10 states.*num_dims"):
        actor(TensorDict({"observation": OBSERVATION}, [5]))
    with pytest.raises(TypeError, match="arguments fractions"):
        QuantileModule(network)(observation=OBSERVATION, fractions=torch.rand(6))


class ByKeyword(nn.Module):
    """For ``torch.export``, which makes no dimension of a keyword argument dynamic."""

    def __init__(self, module: TensorDictModuleBase) -> None:
        super().__init__()
        self.module = module

    def forward(self, observation: Tensor) -> Any:
        return self.module(observation=observation)


@every_network
def test_export_by_keyword(network_class: type[QuantileNetwork]) -> None:
    actor = QuantileActor(small(network_class), spec=Categorical(3))
    others = torch.randn(7, 3, 4)
    anything = torch.export.Dim.AUTO
    static = torch.export.export(actor, args=(), kwargs={"observation": others}, strict=False).module()
    dynamic = torch.export.export(
        ByKeyword(TensorDictSequential(actor)),
        (OBSERVATION,),
        dynamic_shapes=({0: anything, 1: anything},),
        strict=False,
    ).module()
    for outputs_of in (static(observation=others), dynamic(others)):
        for found, expected in zip(outputs_of, actor(observation=others), strict=True):
            torch.testing.assert_close(found, expected)


ENCODERS = {
    "classic": partial(PixelEncoder, image_size=36, channels=3),
    "classic, normalised": partial(PixelEncoder, image_size=36, spectral_norm="all"),
    "impala": partial(ImpalaEncoder, image_size=16, channels=3, pooling="max", pool_size=2),
    "impala, normalised": partial(ImpalaEncoder, image_size=16, spectral_norm="residual", activation="crelu"),
    "small": partial(SmallPixelEncoder, image_size=6, channels=3),
}
every_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)


def images_for(make: partial[Any], *shape: int) -> Tensor:
    options = make.keywords
    channels, size = options.get("channels", 1), options["image_size"]
    return torch.randint(256, (*shape, channels, size, size), dtype=torch.uint8)


@every_encoder
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 3)], ids=str)
def test_images_of_any_leading_dimensions(make: partial[Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoder, images = make(), images_for(make, *shape)
    expected = encoder(images.reshape(-1, *images.shape[-3:]))
    assert torch.equal(encoder(images), expected.reshape(*shape, encoder.num_features))


@every_encoder
def test_images_under_vmap(make: partial[Any]) -> None:
    """Over images, as GAE's value network sees them, and over the parameters of an ensemble."""
    torch.manual_seed(0)
    encoders, images = [make() for _ in range(3)], images_for(make, 3, 2)
    torch.testing.assert_close(torch.vmap(encoders[0])(images), encoders[0](images))
    params, buffers = torch.func.stack_module_state(encoders)
    base = copy.deepcopy(encoders[0]).to("meta")
    for in_dims, seen in ((0, images), (None, images[0])):
        found = torch.vmap(
            lambda own, state, x: torch.func.functional_call(base, (own, state), (x,)), in_dims=(0, 0, in_dims)
        )(params, buffers, seen)
        each = images if in_dims == 0 else images[:1].expand_as(images)
        expected = torch.stack([encoder(x) for encoder, x in zip(encoders, each, strict=True)])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_advantages_from_pixels() -> None:
    make = ENCODERS["classic"]
    value = nn.Sequential(make(), nn.Linear(32, 1))
    steps = {"reward": torch.ones(2, 3, 1), "done": torch.zeros(2, 3, 1, dtype=torch.bool)}
    batch = TensorDict({"pixels": images_for(make, 2, 3), "next": {"pixels": images_for(make, 2, 3), **steps}}, [2, 3])
    batch["next", "terminated"] = batch["next", "done"]
    gae = GAE(gamma=0.9, lmbda=0.0, value_network=ValueOperator(value, in_keys=["pixels"]))
    expected = 1 + 0.9 * value(batch["next", "pixels"]) - value(batch["pixels"])
    torch.testing.assert_close(gae(batch)["advantage"], expected)
