"""Write a run's report.html anew, also while the run goes on.

tm-torchrl report RUN
"""

from __future__ import annotations

from tm_torchrl.commands.parser import add_run, parser_for


def main() -> None:
    """Write and say where."""
    parser = parser_for("report", __doc__)
    add_run(parser)
    args = parser.parse_args()
    from tm_torchrl.live.report import write_report  # takes seconds, which a misspelt command need not

    try:
        print(f"wrote {write_report(args.run).resolve()}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
