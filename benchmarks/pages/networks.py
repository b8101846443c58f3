"""Write ``docs/networks.md``: every network that the configuration builds, with its size, counted by building it.

python benchmarks/pages/networks.py
"""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.pages.tables import table
from benchmarks.results_file import command_of, measured_on, read_results
from benchmarks.studies import fusion
from tm_torchrl.settings.construct import construct
from tm_torchrl.settings.tree import compose_settings
from tm_torchrl.tasks.task import make_task

CATALOGUE_SPEEDS = "catalogue_cpu"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
PIXELS = "env.pixels=true"
IMPALA = f"network=impala {PIXELS}"
FILM = "{_target_: tm_torchrl.modules.FiLM, _partial_: true, num_layers: 2}"
DEEP = "{_target_: tm_torchrl.modules.Hadamard, _partial_: true, num_layers: 2}"
MLP = "{_target_: tm_torchrl.modules.PostConcat, _partial_: true, trunk: mlp}"
TRUNK = "{_target_: tm_torchrl.modules.ResidualTrunk, _partial_: true, num_blocks: 2}"

BLOCK = "env.action_block=5 env.num_previous_actions=25"
STACKS = {
    "What it sees": [
        ("floats", "network=mlp"),
        ("the Linesight agent's four convolutions, and floats", f"network=classic {PIXELS}"),
        ("the same, without floats", f"network=classic {PIXELS} env.floats=false"),
        ("IMPALA's residual convolutions, width 1, and floats", IMPALA),
        ("one convolution, for small images, and floats", f"network=small_image {PIXELS}"),
        ("width 2", f"{IMPALA} objective.network.image.width=2"),
        ("width 4", f"{IMPALA} objective.network.image.width=4"),
        ("BTR's: IMPALA of width 2, spectral and layer norm, noisy head", f"network=btr exploration=noisy {PIXELS}"),
        ("more previous actions among the floats", "network=mlp env.num_previous_actions=25"),
    ],
    "Behind the convolutions": [
        (
            "everything, flat",
            f"{IMPALA} objective.network.image.pooling=flatten objective.network.image.pool_size=null",
        ),
        ("maximum of 6 x 6 parts", f"{IMPALA} objective.network.image.pooling=max objective.network.image.pool_size=6"),
        (
            "mean of 4 x 4 parts",
            f"{IMPALA} objective.network.image.pooling=average objective.network.image.pool_size=4",
        ),
        (
            "one mean for each map",
            f"{IMPALA} objective.network.image.pooling=global_average objective.network.image.pool_size=null",
        ),
        ("spectral norm of the residual blocks", f"{IMPALA} objective.network.image.spectral_norm=residual"),
        ("spectral norm of all convolutions", f"{IMPALA} objective.network.image.spectral_norm=all"),
        ("the same, of the plain ones", f"network=classic {PIXELS} objective.network.image.spectral_norm=all"),
    ],
    "Layers and activations": [
        ("layer norm in the floats' layers and in the head", "objective.network.layer_norm=true"),
        ("two residual blocks behind the encoder", f'"objective.network.trunk={TRUNK}"'),
        ("other sizes", "objective.network.hidden_sizes=[128,128] objective.network.head_size=512"),
        ("ReLU", "objective.network.activation=relu"),
        ("GELU", "objective.network.activation=gelu"),
        ("CReLU", "objective.network.activation=crelu"),
        ("orthogonal initial weights instead of torch's own", "objective.network.initialization=orthogonal"),
    ],
    "Quantiles": [
        ("IQN: drawn fractions times the features", "objective=iqn"),
        ("through two layers", f'"+objective.network.conditioning={DEEP}"'),
        ("IQN: fractions scale and shift the features (FiLM)", f'"+objective.network.conditioning={FILM}"'),
        (
            "IQN: fractions drawn uniformly, as in the paper",
            "objective.network.source._target_=tm_torchrl.modules.UniformFractions",
        ),
        ("QR-DQN: fixed fractions", "objective=qrdqn"),
        ("non-crossing quantiles", "objective=nq"),
        ("the same, trained at sampled fractions", "objective=nq_sampled"),
        ("FQF: proposed fractions", "objective=fqf"),
        ("DQN: one value", "objective=dqn estimator=double"),
    ],
    "Heads": [
        ("value and advantages (the default)", "objective.network.head_size=256"),
        ("one stream", "+objective.network.dueling=false"),
        (
            "transformers over tokens cut from the features, in both streams",
            "objective.network.advantage_stream=transformer objective.network.value_stream=transformer",
        ),
        ("a transformer for the advantages alone", "objective.network.advantage_stream=transformer"),
        ("noisy layers", "objective.network.linear=noisy exploration=noisy"),
        (
            "noisy layers, the value's too",
            "objective.network.linear=noisy objective.network.noisy_value=true exploration=noisy",
        ),
        ("a block of five actions", BLOCK),
        ("its slots told apart by an embedding", f"{BLOCK} objective.network.mixer=embedding"),
        ("its slots through layers of their own", f"{BLOCK} objective.network.mixer=mlp"),
        ("its slots mixed by a convolution", f"{BLOCK} objective.network.mixer=conv"),
        ("its slots mixed by a GRU", f"{BLOCK} objective.network.mixer=gru"),
        ("its slots mixed by attention", f"{BLOCK} objective.network.mixer=attention"),
        ("a value for each slot", f"{BLOCK} objective.network.value_per_slot=true"),
    ],
    "Vision transformers and fusion": [
        ("a vision transformer, and floats side by side", f"network=vit {PIXELS}"),
        ("the same, without floats", f"network=vit {PIXELS} env.floats=false"),
        ("convolutions, then a transformer over the image and groups of floats", f"network=post_concat {PIXELS}"),
        ("floats as one token", f"network=post_concat {PIXELS} objective.network.fusion.float_tokens=one"),
        (
            "floats through layers of their own",
            f"network=post_concat {PIXELS} objective.network.fusion.floats_through=mlp",
        ),
        ("dense layers instead of the transformer", f"network=post_concat {PIXELS} objective.network.fusion.trunk=mlp"),
        (
            "the same with the Linesight agent's convolutions",
            f'network=classic {PIXELS} "objective.network.fusion={MLP}"',
        ),
        (
            "a vision transformer, then a transformer over both",
            f"network=vit {PIXELS} objective.network.fusion=post_concat",
        ),
        ("one transformer over patches and groups of floats", f"network=unified {PIXELS}"),
        ("one transformer over a convolutional map and floats", f"{IMPALA} objective.network.fusion=unified"),
    ],
    "Memory": [
        ("a gated recurrent unit behind the encoder", "replay=sequences objective.network.core=gru"),
        ("a long short-term memory", "replay=sequences objective.network.core=lstm"),
        ("a Mamba block", "replay=sequences objective.network.core=mamba"),
    ],
    "Presets": [
        ("the baseline from pixels", "experiment=iqn_pixels"),
        ("what the Linesight agent was trained with", "experiment=linesight"),
        ("BTR of a CPU's size", "experiment=btr"),
        ("BTR with its paper's numbers", "experiment=btr_paper"),
        ("BTR without noise, some floats hidden", "experiment=btr_cpu"),
        ("a gated recurrent unit behind images and floats", "experiment=exp_gru_latent_v1"),
        ("CartPole without velocities, with memory", "experiment=r2d2_iqn"),
    ],
}

INTRODUCTION = """\
# Networks

Every network is an encoder, an optional trunk, an optional memory, and a head of one quantile family; BTR is a set of
choices in these slots. Each line names a choice and the settings that build it. Settings of different parts combine
freely; what cannot be is refused when the network is built, with the reason. Features are those behind the encoder.
Parameters are those of the whole network; a noisy layer has two for each weight. Updates/s are those of one CPU core in
float32, each from 128 transitions, or with memory from 16 sequences of 20 steps.

This page is written by `python benchmarks/pages/networks.py`. Tests build, train and export every line.

Try one: `tm-torchrl train SETTINGS`. The parts can be used without configuration: `tm_torchrl.modules`.
"""


PARTS = """\
## Parts that are loaded or frozen

A network's parts are `vision`, `floats`, `fusion`, `trunk`, `core`, `fractions`, `advantage` and `value`; they have the
same names in networks with a policy.

- `"warm_start={source: RUN_FOLDER, parts: [vision, fusion]}"` begins with weights of another run, or of a
  `.safetensors` file (`pip install "tm_torchrl[vision]"`). Without `parts`, all that the source has are loaded. What
  was loaded and what not is printed; tensors of other shapes are refused.
- `objective.network.frozen=[vision]` leaves parts as they are: no gradients, no optimiser state, no weight decay, no
  soft reset; always in evaluation mode; shared with the target network.
- `replay.storage=embeddings` stores what the frozen vision part makes of an image, computed once, instead of the image,
  and learns the same from it. Actors still see images. It needs `frozen` to name `vision`, and `replay=uniform` or
  `prioritized` without augmentation or demonstrations.

It is worth it where the features are few and the vision part is expensive. `unified` reads tokens, which are larger
than the image.
"""

BACKBONES = """\
## Backbones of timm and transformers

After `pip install "tm_torchrl[vision]"`, backbones of other libraries see the task's own images. Nothing is downloaded
by itself.

- `TimmEncoder` makes a backbone of [timm](https://github.com/huggingface/pytorch-image-models). `weights` names a
  `.safetensors` file, or the weights are random.
- `TransformersEncoder` reads a folder with `config.json` and `model.safetensors`, for models that timm lacks:
  `hf download facebook/dinov2-small --revision COMMIT --local-dir dinov2` fetches one. Only sizes and weights are read,
  of models that see nothing but images: ViT, DINOv2, CLIP's and SigLIP's vision parts, Swin, ResNet and others.
  Grey images are shown three times to models of colours.

Each is the `image` of a network in Python:
`MLPIQNetwork(184, 12, image=partial(TimmEncoder, model="resnet18"), image_shape=(1, 64, 64))`, and in an experiment's
file `image: {_target_: tm_torchrl.modules.TransformersEncoder, _partial_: true, folder: dinov2}`. Such a run needs the
folder, or the file of weights, whenever it is loaded."""


TITLES = ["network", "settings", "features", "parameters", "updates/s"]


def overrides_of(settings: str) -> list[str]:
    """The words of a command line, as a shell reads them.

    >>> overrides_of('a=1 "b={c: 2}"')
    ['a=1', 'b={c: 2}']
    """
    return shlex.split(settings)


@functools.cache
def catalogue_speeds() -> dict[str, Any]:
    """Updates per CPU second of each line's settings, from ``catalogue_cpu.json``."""
    found = read_results(CATALOGUE_SPEEDS)
    assert found is not None
    return found


def line(name: str, settings: str, network: Any) -> tuple[str, ...]:
    """A line of a table: features behind the encoder, parameters of the network, updates per CPU second."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    rate = catalogue_speeds()["updates_per_cpu_s"][settings]
    return name, f"`{settings}`", f"{network.encoder.num_features:,}", f"{parameters:,}", f"{rate:,g}"


def built_line(name: str, settings: str) -> tuple[str, ...]:
    """A line of a table; builds the network."""
    composed = compose_settings(overrides_of(settings))
    arguments = make_task(composed).network_arguments()
    return line(name, settings, construct(composed["objective"]["network"], name="objective.network", **arguments)())


def cost_of_update() -> list[str]:
    """Times of an update of BTR, from ``network_cpu.json`` and, where it exists, ``network_cuda.json``."""
    cpu, cuda = read_results("network_cpu"), read_results("network_cuda")
    assert cpu is not None
    sizes = list(cpu["updates"])
    times = [
        (f"CPU, one thread, {way}", *(f"{cpu['updates'][size][way]['ms']:,.0f}" for size in sizes))
        for way in cpu["updates"][sizes[0]]
    ]
    times += [(f"CUDA, {way}; peak memory", *(_cuda_cell(cuda, size, way) for size in sizes)) for way in CUDA_WAYS]
    costs = [
        (
            WITHOUT[part],
            *(f"{cost['ratio']:.2f} ({cost['range'][0]:.2f} to {cost['range'][1]:.2f})" for cost in each.values()),
            f"{each['fp32']['asked']:.2f}",
        )
        for part, each in cpu["costs"].items()
    ]
    return [
        *("## What an update costs", "", "One update of `experiment=btr`, milliseconds:", ""),
        *table(["", *sizes], times),
        *("", "Times as long with a part as without it (B=256; median, least and most of the rounds):", ""),
        *table(["", "fp32", "bf16", "at most"], costs),
        *("", f"Measured on {measured_on(cpu, 'torch')}:", f"`{command_of(cpu)}`, CPU seconds.", ""),
    ]


def cost_of_embeddings() -> list[str]:
    """Memory and updates per second with frames and with embeddings, from ``embeddings_cpu.json``."""
    found = read_results("embeddings_cpu")
    assert found is not None
    rows = []
    for network, row in found["networks"].items():
        ways = row["frames"], row["embeddings"]
        sizes = (f"{way['bytes_per_transition']:,}" for way in ways)
        rates = (f"{way['updates_per_cpu_s']:.1f}" for way in ways)
        rows.append((f"`{network}`", *sizes, *rates, f"{row['times_as_fast']:.2f}"))
    titles = ["network", "bytes per transition: frames", "embeddings"]
    titles += ["updates per CPU second: frames", "embeddings", "times as fast"]
    return [
        *table(titles, rows),
        "",
        f"Measured on {measured_on(found, 'torch')}:",
        f"`{command_of(found)}`, beside other programs.",
        "",
    ]


def learning_of_fusion() -> list[str]:
    """What networks that see images and floats learnt, and which of the two they use, from ``fusion.json``."""
    found = read_results("fusion")
    assert found is not None
    return [
        "## What fused networks learn",
        "",
        *table(list(fusion.TITLES), fusion.rows_of(found["arms"])),
        "",
        f"{found['settings']['frames']:,} frames with the settings of `experiment=iqn_pixels`, whose floats show the",
        "line ahead too; a value for each seed. The last three columns are finished laps of the best network: with the",
        "right observations, with images of other places, and with floats of other places. Measured on",
        f"{measured_on(found, 'torch')}:",
        f"`{command_of(found)}`, beside other programs.",
        "",
        "With images of other places most laps still finish, since the floats show the line; with floats of other",
        "places the plain convolutions finish 19 to 59 % by their images. One transformer over patches and floats",
        "finishes as early as the others, but 3.5 s and more slower. The first seeds of the first two lines had the",
        "faster processor, and bfloat16.",
        "",
        "In this table at commit 4c0739b no lap of a transformer over both finished: what all states share was far",
        "larger in its features than what tells them apart. Since then the token that is read begins as the sum of the",
        "others, no norm follows the last block, and weights are torch's own. In presets with orthogonal weights it",
        "needs `objective.network.initialization=null`.",
        "",
    ]


WITHOUT = {
    "spectral norm": "spectral norm of the residual blocks",
    "noisy layers": "noisy layers in the head",
    "Munchausen, online policy": "Munchausen targets, policy of the online network, over double ones",
    "Munchausen, target policy (the paper's)": "Munchausen targets, policy of the target network, over double ones",
}
CUDA_WAYS = ("fp32", "bf16", "bf16, channels_last", "bf16, compiled", "bf16, CUDA graphs, channels_last")


def _cuda_cell(found: dict[str, Any] | None, size: str, way: str) -> str:
    if found is None:
        return "not measured"
    row = found["updates"][size][way]
    return f"{row['ms']:,.1f}; {row['peak_mb']:,.0f} MB"


def page(line_of: Callable[[str, str], tuple[str, ...]] = built_line) -> str:
    """The whole text.

    Args:
        line_of: Makes the line of a name and settings.
    """
    lines = [INTRODUCTION]
    for title, stacks in STACKS.items():
        rows = [line_of(name, settings) for name, settings in stacks]
        lines += [f"## {title}", "", *table(TITLES, rows, align="llr"), ""]
    speeds = catalogue_speeds()
    lines += [f"Updates per CPU second: measured on {measured_on(speeds, 'torch')}:", f"`{command_of(speeds)}`.", ""]
    lines += cost_of_update()
    lines += [*learning_of_fusion(), PARTS, *cost_of_embeddings(), BACKBONES]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    print("wrote", PAGE)


if __name__ == "__main__":
    main()
