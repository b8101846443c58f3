"""One test for each kind of defect that fuzzing found in what reads settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from tm_torchrl.agents.agent import make_agent
from tm_torchrl.record.report import _facts
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.checks import REQUIRED, checked
from tm_torchrl.settings.construct import construct
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.trainers import train

SMALL = ["env.num_envs=2", "objective.network.hidden_sizes=[4]", "device=cpu", "precision=float32"]
HUGE = 10**400  # too large for a float


@functools.cache
def composed() -> dict[str, Any]:
    """A small task's, composed once; tests change copies."""
    return compose_settings(SMALL)


def without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy that lacks a setting."""
    first, _, rest = name.partition(".")
    return {
        key: without(value, rest) if key == first else value
        for key, value in settings.items()
        if key != first or rest
    }  # fmt: skip


def with_one(settings: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy with another value of a setting."""
    first, _, rest = name.partition(".")
    return {**settings, first: with_one(settings[first], rest, value) if rest else value}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_setting_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    settings = without(composed(), name)
    with pytest.raises(ConfigError, match=rf"^{name}: this setting is missing|^{name.split('.')[0]}"):
        train(settings, folder=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_agent_of_a_run_without_its_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^objective\.network: this setting is missing"):
        make_agent(without(composed(), "objective.network"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("replay.num_steps", HUGE, "a whole number of at least 1 wanted, and no greater one than a computer counts"),
        ("replay.capacity", 1e300, "a whole number of at least 1 wanted, and no greater one than a computer counts"),
        ("max_minutes", HUGE, "no greater one than a computer counts"),
        ("gamma", HUGE, "a finite number wanted"),
        ("gamma", ["linear", [0, 0.9], [HUGE, 0.99]], "too large to convert to float"),
        ("gamma", ["linear", ["nan", 0.9], [5, 0.99]], "nan is no finite number"),
        ("replay", None, r"^replay\.capacity: this setting is missing"),
        ("num_threads", 2**40, "at most 1,024 wanted"),
        ("env.generated_tracks", 10_001, "at most 10,000 wanted"),
        ("env.limits.race_s", HUGE, r"^env\.limits\.race_s=1000"),
        ("env.starts.zone", HUGE, r"^env\.starts\.zone=1000"),
        ("env.limits", {"race_s": 5.0}, r"^env\.limits=\{'race_s': 5\.0\}: settings with _target_ wanted"),
        ("env.starts", 5, r"^env\.starts=5: settings with _target_ wanted"),
        ("env.starts._target_", "tm_torchrl.data.ReuseBudget", r"env\.starts"),
        ("env.starts", {"_target_": "tm_torchrl.world.tracker.Limits"}, r"^env\.starts=Limits\(.*_target_ wanted"),
        ("env", {"_target_": "tm_torchrl.data.ReuseBudget", "uses_per_transition": 8}, r"^env\._target_=.*no task"),
        ("env.starts._target_", "", r"^env\.starts\._target_=: a dotted name, such as torch\.optim\.Adam, wanted"),
        ("env.starts._target_", ".data.X", r"_target_=\.data\.X: a dotted name"),
        ("env.starts._target_", "tm_torchrl.settings.nearest", "it is a module; what can be called is wanted"),
        ("env.starts", {"_target_": "tm_torchrl.sim.Starts", 5: 1}, r"^env\.starts: 5 stands there as a name"),
        ("env.starts", {None: 1}, r"^env\.starts=\{None: 1\}: settings with _target_"),
        ("optimizer._partial_", {}, r"^optimizer\._partial_=\{\}: true or false wanted"),
        ("objective.network._partial_", False, r"^objective\.network: what uses it gives further .* _partial_: true"),
        ("objective.loss", {"_target_": "tm_torchrl.sim.Starts"}, r"^objective\.loss: what uses it gives further"),
        ("estimator.name", 5, r"^estimator\.name=5: a name such as munchausen wanted"),
        ("target_update", {"_target_": "tm_torchrl.objectives.SoftUpdate", "_partial_": True}, "^target_update: .*tau"),
        ("learner.compile", -1, r"^learner: compile=-1: true, false or one of"),
        (
            "soft_reset",
            {"_target_": "tm_torchrl.trainers.hooks.soft_reset.Nope"},
            r"^soft_reset\._target_=.*no Nope",
        ),
    ],
)
def test_odd_values_are_named_before_a_folder_is_made(name: str, value: Any, words: str, tmp_path: Path) -> None:
    settings = with_one(composed(), name, value)
    with pytest.raises(ConfigError, match=words):
        train(settings, folder=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_names_that_are_no_texts() -> None:
    with pytest.raises(ConfigError, match=r"^part: None stands there as a name; names are texts"):
        construct({None: 1, "_target_": "tm_torchrl.sim.Starts"}, name="part")  # type: ignore[dict-item]


def test_the_greatest_number_that_is_counted() -> None:
    assert checked({"total_frames": 2**53}) == {"total_frames": 2**53}
    assert make_schedule(1.7e308, name="gamma")(0) == 1.7e308


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["name=${nope}"], r"^name: Interpolation key 'nope' not found; \$\{\.\.\.\} names another setting"),
        (["name=${oc.env:TM_TORCHRL_NOT_SET}"], "^name: .*'TM_TORCHRL_NOT_SET' not found"),
        (["estimator=1"], "Config group override must be a string or a list"),
        (["estimator=[1]"], r"^estimator=\[1\]: the name of one of estimator's choices wanted"),
        (["seed=1", "+experiment=[[btr]]"], r"^\+experiment=\[\[btr\]\]: the name of one of experiment's choices"),
    ],
)
def test_words_of_the_command_line_that_mean_nothing(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_settings(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env: 2026-99-99", "month must be in 1..12"),
        ("env: !!timestamp ''", "is damaged: 'NoneType'"),
        ("env: " + "[" * 3_000 + "]" * 3_000, "is damaged: maximum recursion"),
        ("env: 5\nobjective: {}\nreplay: {}", "env is 5, settings of its own belong there"),
        ("env: {}\nobjective: null\nreplay: {}", "objective is null, settings of its own belong there"),
    ],
)
def test_a_run_s_file_that_is_damaged(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"config\.yaml is damaged: .*{words.removeprefix('is damaged: ')}"):
        run_settings(tmp_path)


def test_our_own_files_may_refer_to_what_stands_above(tmp_path: Path) -> None:
    shared = {"race_s": 5.0}
    settings = {"env": {"limits": shared, "evaluation_limits": shared}, "objective": {}, "replay": {}}
    text = yaml.safe_dump(settings)
    assert "&id001" in text
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert run_settings(tmp_path) == settings


@pytest.mark.parametrize("text", ["[1]", "5", "[" * 100_000, "{", "\0"])
def test_facts_of_a_run_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    assert _facts(tmp_path) == {}
