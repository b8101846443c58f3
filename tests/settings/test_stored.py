"""Settings of saved runs are data: damaged files and foreign code are refused, older forms are understood."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mutated_bytes import mutated
from tm_torchrl.settings import ConfigError, compose_settings, run_settings
from tm_torchrl.settings.stored import upgraded
from tm_torchrl.settings.tree import differences, resumed_settings, run_name

PAYLOADS: dict[str, Any] = {
    "os.system": {"_target_": "os.system", "command": "touch PWNED"},
    "subprocess": {"_target_": "subprocess.Popen", "args": ["touch", "PWNED"]},
    "runpy": {"_target_": "runpy.run_path", "path_name": "evil.py"},
    "shutil": {"_target_": "shutil.rmtree", "path": "."},
    "importlib": {"_target_": "importlib.import_module", "name": "evil"},
    "pickle": {"_target_": "torch.load", "f": "evil.pt", "weights_only": False},
    "missing module": {"_target_": "evil.nothing"},
    "re-exported function": {"_target_": "tm_torchrl.data.saving.checkpoint.Path"},
    "re-exported module": {"_target_": "tm_torchrl.data.saving.checkpoint.shutil.rmtree", "path": "."},
    "builtins": {"_target_": "builtins.eval", "_partial_": True},
    "look-alike": {"_target_": "tm_torchrl_evil.Thing"},
    "a program of the game": {"_target_": "tm_torchrl.game.instances.GameLauncher", "command": "touch PWNED"},
    "a process": {"_target_": "tm_torchrl.game.instances.processes.OwnedProcesses", "command": ["touch", "PWNED"]},
    "a call of any name": {
        "_target_": "tm_torchrl.settings.construct.Later",
        "func": {"_target_": "tm_torchrl.settings.targets.find_target", "path": "os.system"},
        "keywords": {"command": "touch PWNED"},
    },
    "a function that writes": {"_target_": "tm_torchrl.record.run_folder.save_script", "run": ".", "track": "x"},
    "a function that deletes": {"_target_": "tm_torchrl.data.saving.atomic_files.remove_folder", "folder": "."},
    "a command": {"_target_": "tm_torchrl.commands.doctor.main"},
    "a function among parts": {"_target_": "tm_torchrl.modules.orthogonal_", "module": None},
    "a download": {"_target_": "torchrl.envs.transforms.R3MTransform", "model_name": "resnet18", "download": True},
    "a list": {"_target_": ["os.system"]},
}


DEFAULT = compose_settings()


def write(folder: Path, settings: Any) -> None:
    (folder / "config.yaml").write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings), "utf-8")


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("place", ["env.limits", "optimizer", "soft_reset", "replay.augmentation"])
def test_a_saved_run_names_no_foreign_code(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w').close()")
    settings = copy.deepcopy(DEFAULT)
    *rooms, last = place.split(".")
    room = settings
    for inner in rooms:
        room = room[inner]
    room[last] = PAYLOADS[name]
    write(tmp_path, settings)
    with pytest.raises(ConfigError, match=rf"{place}\._target_="):
        run_settings(tmp_path)
    assert not (tmp_path / "PWNED").exists()


def test_a_gymnasium_id_imports_no_foreign_module(tmp_path: Path) -> None:
    settings = compose_settings(["env=gym"])
    settings["env"]["name"] = "evil:CartPole-v1"
    write(tmp_path, settings)
    with pytest.raises(ConfigError, match=r"env\.name=evil:CartPole-v1"):
        run_settings(tmp_path)
    assert run_settings(tmp_path, trust=["evil"])["env"]["name"] == "evil:CartPole-v1"


@pytest.mark.parametrize("name", ["render_mode", "env_id"])
def test_a_gymnasium_task_opens_no_window_and_makes_no_other_task(name: str, tmp_path: Path) -> None:
    settings = compose_settings(["env=gym"])
    settings["env"]["options"] = {name: "human"}
    write(tmp_path, settings)
    with pytest.raises(ConfigError, match=rf"env\.options\.{name}=human"):
        run_settings(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("client", "host", "203.0.113.7"),
        ("client", "map_path", "x; quit"),
        ("client", "map_path", "x\nquit"),
        ("client", "map_path", 'x" quit'),
        ("launcher", "arguments", ["--host", "0.0.0.0"]),
    ],
)
def test_a_saved_game_reaches_no_other_machine(part: str, name: str, value: Any, tmp_path: Path) -> None:
    settings = compose_settings(["env=game", "game=emulator2"])
    settings["env"]["game"][part][name] = value
    write(tmp_path, settings)
    with pytest.raises(ConfigError, match=rf"{name}="):
        run_settings(tmp_path)
    assert run_settings(tmp_path, trust=["tm_torchrl.game"])["env"]["game"][part][name] == value


def test_a_saved_run_joins_no_cluster(tmp_path: Path) -> None:
    settings = compose_settings(["collector=ray"])
    settings["collector"]["address"] = "203.0.113.7:6379"
    write(tmp_path, settings)
    with pytest.raises(ConfigError, match=r"collector\.address="):
        run_settings(tmp_path)
    assert run_settings(tmp_path, trust=["ray"])["collector"]["address"] == "203.0.113.7:6379"
    settings["collector"]["address"] = "auto"
    write(tmp_path, settings)
    assert run_settings(tmp_path)["collector"]["address"] == "auto"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("env: &a\n  b: *a\nobjective: {}\nreplay: {}\n"), "line 2 has an alias"),
        (getattr(os, "mkfifo", Path.mkdir), "must be a regular file"),
        (Path.mkdir, "must be a regular file"),
        (lambda path: path.write_bytes(b" " * (2**24 + 1)), "has 16,777,217 bytes; must be at most"),
    ],
    ids=["alias", "pipe", "folder", "size"],
)
def test_what_would_be_read_without_end(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "config.yaml")
    with pytest.raises((ConfigError, OSError), match=message) as caught:
        run_settings(tmp_path)
    assert str(tmp_path / "config.yaml") in str(caught.value)


@pytest.mark.parametrize("preset", [[], ["env=gym"], ["env=game", "game=emulator2"], ["experiment=btr"]], ids=str)
def test_our_own_settings_come_back_as_they_were(preset: list[str], tmp_path: Path) -> None:
    settings = compose_settings(preset)
    write(tmp_path, settings)
    assert run_settings(tmp_path) == settings


def test_a_reset_that_is_gone_resets_nothing() -> None:
    settings = compose_settings([])
    home = "tm_torchrl.trainers.hooks.soft_reset"
    gone = upgraded({**settings, "soft_reset": {"_target_": f"{home}.DormantReset", "_partial_": True}})
    assert gone["soft_reset"] is None
    kept = {"_target_": f"{home}.SoftReset", "_partial_": True}
    assert upgraded({**settings, "soft_reset": kept})["soft_reset"] == kept


def test_sections_of_older_runs_get_their_targets() -> None:
    settings = compose_settings()
    older = {key: value for key, value in settings.items() if key not in ("algorithm", "trust")}
    for name in ("replay", "learner", "collector"):
        older[name] = {key: value for key, value in settings[name].items() if not key.startswith("_")}
    estimator = {key: value for key, value in settings["estimator"].items() if not key.startswith("_")}
    older["estimator"] = {"name": "munchausen", **estimator}
    found = upgraded(older)
    assert differences({**settings, "trust": None}, {**found, "trust": None}) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env: 2026-99-99", "month must be in 1..12"),
        ("env: !!timestamp ''", "NoneType"),
        ("env: " + "[" * 3_000 + "]" * 3_000, "maximum recursion"),
        ("env: 5\nobjective: {}\nreplay: {}", "env=5"),
        ("env: {}\nobjective: null\nreplay: {}", "objective=null"),
        ("env: {}\nalgorithm: 5", "algorithm=5"),
        ("seed: 1", "no env, objective, replay"),
    ],
)
def test_a_damaged_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"config\.yaml is damaged.*{words}"):
        run_settings(tmp_path)


TOKENS = rb"""&a *a &b [ &b [*b,*b], *b ] !!python/object/apply:os.getcwd 2026-99-99 0x 0b 1_0 .inf .nan <<: {} ? - |
> %YAML --- [[[[[[ {{{{{{ !!binary !!timestamp !!set 1:99:99 1e999 ~ '' " \x00 ${nope} ${env.track} 12345678901234567890
[1,{a:1}] {5:1} {~:1} true -1 1.5 abc 2026-11-21 !!null !!int !!float !x @ ` # \xff""".replace(b"\n", b" ")


def test_any_file_gives_settings_or_a_config_error(tmp_path: Path) -> None:
    stored = {
        "env": {"_target_": "tm_torchrl.tasks.TrackManiaTask", "track": "oval", "num_envs": 2},
        "objective": {"num_acting_fractions": 8},
        "replay": {"batch_size": 128, "capacity": [[0, 5, 1]]},
        "gamma": ["linear", [0, 0.99]],
        "seed": 0,
    }
    valid = yaml.safe_dump(stored, sort_keys=False).encode()
    generator = random.Random(0)
    num, num_read = 500, 0
    for _ in range(num):
        is_random = generator.random() < 0.2
        content = (
            generator.randbytes(generator.randint(0, 200)) if is_random else mutated(valid, generator, more=TOKENS)
        )
        (tmp_path / "config.yaml").write_bytes(content)
        try:
            found = run_settings(tmp_path)
            resumed_settings({**found, "resume": "a"}, ["resume=a"], found)
            run_name({"name": None, **found})
        except ConfigError:
            continue
        num_read += 1
        assert isinstance(found["env"], dict)
    assert 0 < num_read < num


@pytest.mark.parametrize(
    ("linear", "plain", "expected"), [("linear", False, False), ("noisy", False, True), ("noisy", True, "hidden")]
)
def test_noise_of_the_value_in_earlier_versions(linear: str, plain: bool, expected: Any) -> None:
    old = {"objective": {"network": {"linear": linear, "plain_value_output": plain, "head_size": 8}, "loss": {}}}
    network = upgraded(old)["objective"]["network"]
    assert network == {"linear": linear, "noisy_value": expected, "head_size": 8}
