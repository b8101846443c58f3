"""Bring weights of Linesight or rulka here: a run folder to evaluate, watch, export and train on.

tm-torchrl import-linesight save/RUN/weights1.torch --out runs/imported
tm-torchrl import-linesight weights1.torch --target weights2.torch --constants state_normalization.py \\
    --out runs/imported env.track=my_map.npz
tm-torchrl evaluate runs/imported             # then; and to go on training:
tm-torchrl train resume=runs/imported total_frames=1000000
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.linesight.convert import import_linesight


def image_size(text: str) -> tuple[int, int]:
    """``120x160``: height and width."""
    height, _, width = text.partition("x")
    if not height.isdigit() or not width.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: must be HEIGHTxWIDTH, such as 120x160")
    return int(height), int(width)


def main() -> None:
    """Import and tell."""
    parser = parser_for("import-linesight", __doc__)
    parser.add_argument("weights", type=Path, help="weights1.torch of a folder in save/")
    parser.add_argument("settings", nargs="*", help="of the run, as for train_iqn.py: env.track=oval ...")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    parser.add_argument("--target", type=Path, help="weights2.torch (the online network's)")
    parser.add_argument("--constants", type=Path, help="state_normalization.py or config_snapshot.yaml (looked for)")
    parser.add_argument("--own-constants", action="store_true", help="normalise floats with this project's constants")
    parser.add_argument("--image", type=image_size, help="HEIGHTxWIDTH of images (64x64 or 120x160, as weights say)")
    args = parser.parse_intermixed_args()  # settings may stand anywhere
    try:
        found = import_linesight(
            args.weights,
            folder=args.out,
            target=args.target,
            constants=args.constants,
            with_own_constants=args.own_constants,
            image_size=args.image,
            settings=args.settings,
        )
    except (ValueError, OSError, CheckpointError) as error:
        raise SystemExit(f"error: {error}") from None
    image = "no images" if found.shape.image_size is None else "images of {} x {}".format(*found.shape.image_size)
    print(f"network: {found.shape.num_inputs} floats, {image}, {found.shape.num_cosines} cosines")
    print(f"constants of the floats: {found.constants or 'of this project'}")
    print(f"values equal the original's: they differ by {found.difference:.0e} of their spread")
    print(f"wrote {found.folder.resolve()}")
