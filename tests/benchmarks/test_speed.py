"""The guard compares what can be compared, and says what got worse."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed
from benchmarks.results_file import RESULTS
from benchmarks.speeds.ratios import ratios, read, worse
from tests.conftest import Script

BEFORE: dict[str, dict[str, Any]] = {
    "env": {
        "steps_per_s": {
            "physics + 264 floats 64": 400.0,
            "CarRacing-v3": 2.0,
            **{f"TrackManiaEnv.step {kind} 64": speed for kind, speed in (("floats", 100.0), ("pixels", 50.0))},
        }
    },
    "loss": {
        "updates_per_cpu_s": {
            "IQN": {"ours": 30.0, "ours, bf16": 60.0, "tianshou": 20.0},
            "QR-DQN": {"ours": 30.0, "ours, greedy": 40.0, "sb3-contrib": 20.0},
        }
    },
    "network": {
        "costs": {"noisy layers": {"fp32": {"ratio": 1.05}}},
        "updates": {"B=256": {"fp32": {"ms": 300.0}, "bf16": {"ms": 100.0}}},
    },
    "train": {"rows": {"float32": {"ours_time_over_bare": 1.1}}},
}


def test_ratios_that_can_be_formed() -> None:
    assert ratios(BEFORE) == {
        "env: 64 cars, TrackManiaEnv over bare physics and floats": 0.25,
        "env: 64 cars, TrackManiaEnv with pixels over CarRacing-v3": 25.0,
        "loss: IQN, ours over tianshou": 1.5,
        "loss: IQN, ours, bf16 over tianshou": 3.0,
        "loss: QR-DQN, ours, greedy over sb3-contrib": 2.0,
        "network: time without noisy layers over that with it, fp32": 1 / 1.05,
        "network: B=256, bf16 over fp32": 3.0,
        "train: float32, a bare loop's time over ours": 1 / 1.1,
    }


def test_twenty_per_cent_are_allowed_in_the_bad_direction_alone() -> None:
    now = copy.deepcopy(BEFORE)
    now["loss"]["updates_per_cpu_s"]["IQN"]["ours"] = 24.0  # 1.25 times as slow
    now["loss"]["updates_per_cpu_s"]["IQN"]["ours, bf16"] = 51.0  # 1.18 times
    now["network"]["costs"]["noisy layers"]["fp32"]["ratio"] = 0.5
    now["train"]["rows"]["float32"]["ours_time_over_bare"] = 1.4
    assert worse(now, BEFORE) == {
        "loss: IQN, ours over tianshou": (1.5, 1.2),
        "train: float32, a bare loop's time over ours": (1 / 1.1, 1 / 1.4),
    }
    assert worse(now, BEFORE, allowed=1.3) == {}
    assert [*worse(BEFORE, now)] == ["network: time without noisy layers over that with it, fp32"]


def test_what_a_machine_lacks_is_not_compared() -> None:
    now = copy.deepcopy(BEFORE)
    del now["env"]["steps_per_s"]["CarRacing-v3"], now["loss"]["updates_per_cpu_s"]["IQN"]["tianshou"], now["train"]
    assert worse(now, BEFORE) == {}


def test_the_guard_measures_again_what_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = copy.deepcopy(BEFORE)
    slow["train"]["rows"]["float32"]["ours_time_over_bare"] = 1.5
    asked: list[list[str]] = []

    def run(names: list[str], arguments: object, *, device: str, results: Path) -> None:
        asked.append(names)
        found = slow if len(asked) < 2 or is_really_slow else BEFORE
        for name in names:
            (results / f"{name}_{device}.json").write_text(json.dumps(found[name]))

    monkeypatch.setattr(speed, "run", run)
    is_really_slow = False
    assert speed.guard(BEFORE) == 0
    assert asked == [["env", "loss", "network", "train"], ["train"]]
    assert "8 ratios compared, 0 more than 20% worse" in capsys.readouterr().out
    asked.clear()
    is_really_slow = True
    assert speed.guard(BEFORE) == 1
    assert "train: float32, a bare loop's time over ours: 0.909 before, 0.667 now" in capsys.readouterr().out


def test_a_benchmark_that_fails_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    (tmp_path / "bench_env.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match=r"bench_env\.py failed with 3"):
        speed.run(["env"], {"env": []}, device="cpu", results=tmp_path)


def test_the_page_is_that_of_the_committed_results() -> None:
    text = speed.PAGE.read_text(encoding="utf-8")
    assert text == speed.page(read(RESULTS), read(RESULTS, device="cuda")), "run python benchmarks/speed.py --page"
    assert "| physics, 64 cars |" in text


@pytest.mark.parametrize("way", ["--page", "--guard"])
def test_damaged_results_are_named(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loss_cpu.json").write_text('{"updates')
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["speed.py", way])
    with pytest.raises(SystemExit, match=r"loss_cpu\.json: .*python benchmarks/speeds/bench_loss\.py"):
        speed.main()


@pytest.mark.parametrize("name", ["speed", "tune", "report", "update_readme", "same_results"])
def test_help_of_the_commands(name: str, script: Script) -> None:
    done = script(f"benchmarks/{name}.py", "--help")
    assert done.returncode == 0 and f"python benchmarks/{name}.py" in done.stdout
