"""Weights of Linesight and rulka: equal values, the right constants, a run that goes on; and what is refused."""

from __future__ import annotations

import contextlib
import io
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import Script
from tests.trainers.test_training import quiet
from tm_torchrl.agents import load_agent
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.linesight.constants import find_constants, num_previous_actions, read_constants
from tm_torchrl.linesight.convert import import_linesight
from tm_torchrl.linesight.weights import (
    LinesightShape,
    WeightsError,
    greatest_difference,
    linesight_like,
    linesight_shape,
    make_network,
    read_linesight,
    reference_values,
    to_our_weights,
)
from tm_torchrl.modules import Normalize
from tm_torchrl.world.observation import observation_constants, observation_layout

RULKA = LinesightShape(184, 12, 256, 512, 128, (64, 64))
LINESIGHT = LinesightShape(184, 12, 256, 512, 64, (120, 160))
BLIND = LinesightShape(264, 12, 256, 512, 64, None)
SEEING = LinesightShape(184, 12, 32, 32, 16, (64, 64))
QUICK = [
    *(
        "env.track=oval",
        "env.num_envs=2",
        "env.evaluation_limits.race_s=1",
        "evaluation.num=1",
        "log.tensorboard=false",
    ),
    *("collector=single", "collector.frames_per_batch=16", "replay.capacity=32", "replay.learning_starts=16"),
    *("replay.batch_size=4", "replay.uses_per_transition=1"),
]


def ours(weights: dict[str, Tensor], shape: LinesightShape, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(shape.num_inputs, generator=generator) + 0.5
    network = make_network(shape, normalize=Normalize(torch.randn(shape.num_inputs, generator=generator), scale))
    network.load_state_dict(to_our_weights(weights), strict=False)
    return network


@pytest.mark.parametrize(("shape", "num_parameters"), [(RULKA, 1_051_805), (LINESIGHT, 6_578_333), (BLIND, 420_109)])
def test_values_equal_the_originals(shape: LinesightShape, num_parameters: int) -> None:
    # The first two are the sizes of the published networks. Without images D = 256: floats 264 * 256 + 256 = 67,840
    # and 65,792, projection 64 * 256 + 256 = 16,640, two streams of 131,584 each, outputs 6,156 and 513.
    weights = linesight_like(shape, seed=3)
    assert sum(value.numel() for value in weights.values()) == num_parameters
    assert linesight_shape(weights) == shape
    # Each processor sums in an order of its own; a wrong layer makes 1e-3 and more.
    assert greatest_difference(ours(weights, shape), weights, shape) < 1e-5


@pytest.mark.parametrize("name", ["A_head.2.bias", "V_head.0.weight", "img_head.6.bias", "iqn_fc.0.weight"])
def test_a_wrong_layer_is_noticed(name: str) -> None:
    weights = linesight_like(RULKA)
    network = ours(weights, RULKA)
    weights[name] = weights[name] + 0.1 * torch.randn(weights[name].shape)
    assert greatest_difference(network, weights, RULKA) > 1e-3


def test_the_reference_is_the_layer_list() -> None:
    # One float x, one cosine cos(pi tau), one hidden unit each, two actions; all weights 1 or as named, biases 0.
    names = ("float_feature_extractor.0", "float_feature_extractor.2", "iqn_fc.0", "A_head.0", "V_head.0", "V_head.2")
    weights = {f"{name}.weight": torch.ones(1, 1) for name in names}
    weights["A_head.2.weight"] = torch.tensor([[1.0], [3.0]])
    weights |= {name.replace("weight", "bias"): torch.zeros(len(value)) for name, value in weights.items()}
    found = reference_values(weights, torch.tensor([[2.0]]), torch.tensor([[1 / 3, 1.0]]))
    # tau 1/3: cos 60 degrees = 0.5, so h = 2 * 0.5 = 1: A = 1, 3 with mean 2, V = 1: Q = 0, 2.
    # tau 1: cos 180 = -1, leaky -0.01, h = -0.02, leaky -0.0002: A = -0.0002, -0.0006, V = -0.0002: Q = 0, -0.0004.
    assert found[0] == pytest.approx(torch.tensor([[0.0, 2.0], [0.0, -0.0004]]).numpy(), abs=1e-6)


def test_prefixes_of_compiled_networks_and_half_precision_are_read(tmp_path: Path) -> None:
    weights = linesight_like(RULKA)
    torch.save({f"_orig_mod.{name}": value.half() for name, value in weights.items()}, tmp_path / "w.torch")
    found = read_linesight(tmp_path / "w.torch")
    assert linesight_shape(found) == RULKA
    assert torch.equal(found["A_head.0.bias"], weights["A_head.0.bias"].half().float())


class Explosive:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds more than tensors"),
        (b"PK\x03\x04 no archive", "holds more than tensors"),
        (pickle.dumps(Explosive()), "holds more than tensors"),
    ],
    ids=["empty", "no archive", "an object"],
)
def test_files_that_are_no_tensors_are_refused_and_never_run(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.torch").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_linesight("w.torch")
    torch.save({"A_head.0.weight": torch.ones(1), "code": Explosive()}, "w.torch")
    with pytest.raises(WeightsError, match=r"w\.torch: holds more than tensors"):
        read_linesight("w.torch")
    torch.save([1, 2], "w.torch")
    with pytest.raises(WeightsError, match=r"w\.torch: is not a state dict"):
        read_linesight("w.torch")
    with pytest.raises(WeightsError, match="does not exist"):
        read_linesight("absent.torch")
    assert not Path("exploded").exists()


def test_other_architectures_are_named() -> None:
    weights = linesight_like(RULKA)
    with pytest.raises(WeightsError, match=r"A_head.2.bias is missing; A_head_multi.weight is unknown"):
        linesight_shape(
            {
                **{k: v for k, v in weights.items() if k != "A_head.2.bias"},
                "A_head_multi.weight": weights["A_head.2.bias"],
            }
        )
    with pytest.raises(WeightsError, match=r"V_head.0.weight: has shape \(512, 700\), .* \(512, 768\)"):
        linesight_shape({**weights, "V_head.0.weight": torch.zeros(512, 700)})
    square = linesight_like(LinesightShape(184, 12, 256, 512, 64, (100, 100)))
    with pytest.raises(WeightsError, match="2592 are features of the image; images of 64 x 64 or 120 x 160"):
        linesight_shape(square)  # 100, 49, 23, 11, 9: 32 * 9 * 9 = 2592
    assert linesight_shape(square, image_size=(100, 100)).image_size == (100, 100)
    assert [num_previous_actions(n) for n in (168, 184, 264)] == [1, 5, 25]
    with pytest.raises(WeightsError, match="reads 185 floats"):
        num_previous_actions(185)


def test_constants_come_from_their_files(tmp_path: Path) -> None:
    mean, scale = [float(i) for i in range(184)], [0.5] * 184
    python = tmp_path / "config_files" / "state_normalization.py"
    python.parent.mkdir()
    python.write_text(
        f"import numpy as np\nfloat_inputs_mean = np.array({mean})\nfloat_inputs_std = np.array({scale})\n", "utf-8"
    )
    save = tmp_path / "save" / "run"
    save.mkdir(parents=True)
    assert find_constants(save / "weights1.torch") == python
    found = read_constants(python, num_inputs=184)
    assert found.mean.tolist() == mean
    assert found.scale.tolist() == scale
    snapshot = save / "config_snapshot.yaml"
    snapshot.write_text(
        f"state_normalization: {{waypoint_mean_40cp: {mean[:120]}, waypoint_std_40cp: {[2.0] * 120}}}\n", "utf-8"
    )
    assert find_constants(save / "weights1.torch") == snapshot
    rulka = read_constants(snapshot, num_inputs=264)
    layout, constants = observation_layout(25), observation_constants(25)
    assert rulka.mean[layout["zones_ahead"]].tolist() == mean[:120]
    assert rulka.scale[layout["wheel_damper"]].tolist() == [0.5] * 4
    assert rulka.mean[layout["velocity"]].tolist() == [0.0, 0.0, 55.0]
    assert np.array_equal(read_constants(None, num_inputs=264).mean.numpy(), constants[0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "x = 1", "does not set float_inputs_mean and float_inputs_std"),
        ("a.py", "float_inputs_mean = [open('x')]", "is not a list of plain numbers"),
        ("a.py", "float_inputs_mean = [1]\nfloat_inputs_std = [1]", "float_inputs_mean has 1 numbers"),
        (
            "a.py",
            f"float_inputs_mean = {[0] * 184}\nfloat_inputs_std = {[0] * 184}",
            "float_inputs_std\\[0\\]=0: must be positive",
        ),
        ("a.py", "(", "is not a Python file"),
        ("a.yaml", "a: [", "is not a YAML file"),
        ("a.yaml", "a: 1", "no state_normalization"),
        (
            "a.yaml",
            "state_normalization: {waypoint_mean_40cp: [1], waypoint_std_40cp: [1]}",
            "has 1 numbers; must have 120",
        ),
        ("a.yaml", "state_normalization: {waypoint_mean_40cp: x, waypoint_std_40cp: y}", "is not a list of numbers"),
    ],
)
def test_files_without_constants_are_explained(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(WeightsError, match=message):
        read_constants(tmp_path / name, num_inputs=184)


def test_an_imported_run_is_evaluated_and_trained_on(tmp_path: Path, script: Script) -> None:
    online, target = linesight_like(SEEING), linesight_like(SEEING, seed=1)
    for name, weights in (("weights1", online), ("weights2", target)):
        torch.save(weights, tmp_path / f"{name}.torch")
    run = tmp_path / "run"
    words = [tmp_path / "weights1.torch", "--target", tmp_path / "weights2.torch", "--out", run, "--own-constants"]
    done = script("scripts/import_linesight.py", *words, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "values equal the original's" in done.stdout
    agent = load_agent(run)
    pixels = torch.randint(256, (3, 1, 64, 64), dtype=torch.uint8)
    floats = torch.randn(3, 184)
    fractions = torch.tensor([0.1, 0.6])
    normalized = read_constants(None, num_inputs=184)(floats)
    expected = reference_values(online, normalized, fractions.expand(3, 2), pixels_BCHW=pixels)
    values = agent.quantiles({"pixels": pixels, "observation": floats}, fractions=fractions)
    assert values.numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-5)
    state, _ = Checkpoints(run / "checkpoints").load()
    name = "target_value_network_params.quantile_module.network.head.decoder.value.2.bias"
    assert torch.equal(state["learner"]["loss"][name], target["V_head.2.bias"])
    summary = quiet([f"resume={run}", "total_frames=64"], run)
    assert summary.frames == 64
    after, _ = Checkpoints(run / "checkpoints").load()
    assert after["learner"]["num_updates"] > 0
    assert (
        float((after["actor"]["quantile_module.network.head.decoder.value.2.bias"] - online["V_head.2.bias"]).abs())
        < 0.1
    )


def test_what_cannot_be_imported_leaves_nothing(tmp_path: Path) -> None:
    def refused(shape: LinesightShape, message: str, **options: object) -> None:
        torch.save(linesight_like(shape), tmp_path / "w.torch")
        with pytest.raises(ValueError, match=message):
            import_linesight(tmp_path / "w.torch", folder=tmp_path / "run", **options)  # type: ignore[arg-type]
        assert [path.name for path in tmp_path.iterdir()] == ["w.torch"]

    refused(RULKA, "give --constants FILE, or --own-constants")
    refused(LINESIGHT, "reads images of 120 x 160, but environments here have 64 x 64", with_own_constants=True)
    refused(LinesightShape(184, 7, 256, 512, 64, (64, 64)), "has 7 actions; must have 12")
    refused(BLIND, "make another network", with_own_constants=True, settings=["objective.network.head_size=16"])
    with pytest.raises(WeightsError, match="exists; give a new folder"):
        import_linesight(tmp_path / "w.torch", folder=tmp_path)


SMALL = LinesightShape(184, 12, 8, 8, 4, None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.floats(0, 1))
def test_damaged_files_are_weights_or_a_typed_error(flips: list[tuple[float, int]], kept: float) -> None:
    buffer = io.BytesIO()
    torch.save(linesight_like(SMALL), buffer)
    content = bytearray(buffer.getvalue())
    for where, value in flips:
        content[int(where * (len(content) - 1))] = value
    if kept < 0.5:
        del content[int(2 * kept * len(content)) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.torch"
        path.write_bytes(content)
        with contextlib.suppress(WeightsError):
            assert linesight_shape(read_linesight(path)) == SMALL
