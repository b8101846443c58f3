"""Write the greedy policy of a run as a program of its own, and check that it acts as the agent does.

tm-torchrl export RUN                         # RUN/policy.pt2, loaded with torch.export.load
tm-torchrl export RUN --onnx                  # RUN/policy.onnx; needs pip install "tm_torchrl[onnx]"
"""

from __future__ import annotations

from pathlib import Path

import torch

from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import Agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_onnx, export_policy, visited_states
from tm_torchrl.commands.parser import run_parser
from tm_torchrl.data.saving.atomic_files import without_link
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.game.errors import GameError


def main() -> None:
    """Export and verify."""
    parser = run_parser("export", __doc__)
    parser.add_argument("--out", type=Path, help="file to write (RUN/policy.pt2 or RUN/policy.onnx)")
    parser.add_argument("--onnx", action="store_true", help="ONNX instead of torch.export")
    parser.add_argument("--states", type=int, default=1000, help="number of states to compare on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        agent: Agent = load_agent(args.run, which=args.which, trust=args.trust)
        states = visited_states(agent, args.states)
        policy = GreedyPolicy(agent.actor)
        out: Path = args.out or args.run / ("policy.onnx" if args.onnx else "policy.pt2")
        loaded = (export_onnx if args.onnx else export_policy)(policy, states, without_link(out))
    except (ValueError, OSError, CheckpointError, GameError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    different = disagreements(agent, loaded, states)
    if different:
        raise SystemExit(f"error: {out} acts differently in {different} of {args.states} states")
    print(f"wrote {out.resolve()}: the same action in all of {args.states} visited states")
