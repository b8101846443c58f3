"""Run experiments over seeds and compare them with a baseline in one table and one plot.

tm-torchrl ablate                                   all 13 presets exp_..._v1, 5 seeds each
tm-torchrl ablate exp_munchausen_iqn_v1 exp_enable_per_v1 --seeds 0 1 2 --minutes 30
tm-torchrl ablate exp_enable_per_v1 exp_enable_per_v1+replay.prioritized.alpha=0.4 --accumulate
tm-torchrl ablate exp_layer_norm_v1 estimator=munchausen --minutes 4 --with network=mlp env.pixels=false
tm-torchrl ablate --on ray --resources CPU=2 GPU=1  in a Ray cluster, all runs that it has room for (docs/scaling.md)

Finished runs drive some more laps: greedy ones, with random actions, and with noise on what they see.

An experiment is a preset of configs/experiment, or changes to the baseline, or both joined by +. The same command goes
on where it was ended: finished runs are kept, one that was killed goes on from its checkpoint, one that failed is tried
again. Exit status: 0 if all runs are done, 1 if some failed (their reasons are in the table), 2 for a mistake in what
was asked for, 130 if it was interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tm_torchrl.commands.parser import add_ray, parser_for


def main() -> None:
    """Run all, say where the table is."""
    parser = parser_for("ablate", __doc__)
    parser.add_argument("experiments", nargs="*", help="in this order (all 13 presets exp_..._v1)")
    parser.add_argument("--baseline", default="iqn_pixels", help="a preset (iqn_pixels)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="(0 1 2 3 4)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of training, for each run")
    length.add_argument("--frames", type=int, help="of each run (the preset's)")
    parser.add_argument(
        "--accumulate", action="store_true", help="add each experiment to the best so far, if it is clearly better"
    )
    parser.add_argument("--workers", type=int, help="runs at a time (1; on Ray all that there is room for)")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder (runs/ablation)")
    parser.add_argument("--with", dest="overrides", nargs="+", default=[], help="settings of all runs")
    add_ray(parser)
    args = parser.parse_args()

    from tm_torchrl.experiments.ablation import ROADMAP, Ablation
    from tm_torchrl.experiments.on_ray import ray_runs
    from tm_torchrl.experiments.robustness import measure_robustness
    from tm_torchrl.experiments.run_process import RunProcess
    from tm_torchrl.settings.construct import ConfigError

    overrides = list(args.overrides)
    overrides += [] if args.minutes is None else [f"max_minutes={args.minutes}"]
    overrides += [] if args.frames is None else [f"total_frames={args.frames}"]
    experiments, is_on_ray = args.experiments or ROADMAP, args.on == "ray"
    workers = (1 + len(experiments)) * len(args.seeds) if is_on_ray else 1
    try:
        ablation = Ablation(
            experiments,
            out=args.out,
            baseline=args.baseline,
            seeds=args.seeds,
            overrides=overrides,
            accumulate=args.accumulate,
            workers=workers if args.workers is None else args.workers,
        )
        start = ray_runs(args.resources, judge=measure_robustness, log=_say) if is_on_ray else RunProcess
        entries = ablation.run(judge=measure_robustness, log=_say, start=start)
    except (ConfigError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    print((args.out / "table.md").read_text(encoding="utf-8"))
    print(f"wrote {args.out.resolve()}: table.md, table.csv, plot.png")
    raise SystemExit(any(entry.failures for entry in entries))


def _say(message: str) -> None:
    print(message, flush=True)
