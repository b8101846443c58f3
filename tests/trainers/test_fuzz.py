"""Mutated settings up to where a run's folder is made: only errors that the command shows as one line.

Of ``num`` settings all go through the checks and the task, and one in ``BUILDS`` builds the network, loss and optimiser
too. For each ``COMPOSES`` of them one more is composed by Hydra from words of a command line. Files are ``num`` more.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from tests.mutated_bytes import mutated
from tm_torchrl.record.folder_claim import FolderTakenError
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.settings.tree import differences, resumed_settings, run_name
from tm_torchrl.tracks import load_track
from tm_torchrl.trainers import run, train

SLOW = [pytest.param(seed, 10_000, marks=pytest.mark.slow) for seed in range(1, 11)]
BUILDS, COMPOSES = 100, 50
SMALL = ["env.num_envs=2", "objective.network.hidden_sizes=[4]", "device=cpu", "precision=float32"]
BASES = [SMALL, ["experiment=cartpole_iqn", *SMALL[1:]], [*SMALL, "replay=prioritized", "objective=qrdqn"]]
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 5, 10**6, 2**31, 2**63, 10**400, -0.5, 0.5, 1.5, float("nan"), float("inf"),
    -1e300, 1e300, 1e-300, "", " ", "abc", "nan", "oval", "auto", "a/b.npz", "é\0", "${nope}", "5", [], [1],
    [None], "${env.track}",
    ["oval", "ring"], ["linear"], ["linear", [0, 1.0]], ["linear", [0, 1.0], [0, 2.0]], ["linear", [0, 10**400]],
    ["cubic", [0, 1.0]], ["exponential", [0, -1.0]], [[0, 100, 10]], [[0, 100]], [[1, 2, 3], [0, 1, 2]], [[[[]]]], {},
    {"a": 1}, {5: 1}, {None: {}}, {"_target_": "abc"}, {"_target_": "tm_torchrl.data.ReuseBudget"}, {"_partial_": True},
    date(2026, 11, 21), b"abc", (1, 2), {1, 2},
]  # fmt: skip
CHEAP = [value for value in ODD if value not in (10**6, 2**31)]  # a network of a million neurons is made, but slowly
TARGETS = [
    *[".", "..", "abc", "a..b", ".data.X", "tm_torchrl", "tm_torchrl.", "tm_torchrl.data", "tm_torchrl.nope.X"],
    *["tm_torchrl.data.ReuseBudgets", "tm_torchrl.data.ReuseBudget", "tm_torchrl.data.__doc__"],
    *[
        "tm_torchrl.sim.Starts",
        "tm_torchrl.modules.Normalize",
        "torch.optim.SGD",
        "tm_torchrl.settings.nearest",
        "",
        "a b.c",
        5,
        None,
    ],
]
TOKENS = rb"""&a *a &b [ &b [*b,*b], *b ] !!python/object/apply:os.getcwd 2026-99-99 0x 0b 1_0 .inf .nan <<: {} ? - |
> %YAML --- [[[[[[ {{{{{{ !!binary !!timestamp !!set 1:99:99 1e999 ~ '' " \x00 ${nope} ${env.track} 12345678901234567890
[1,{a:1}] {5:1} {~:1} true -1 1.5 abc 2026-11-21 !!null !!int !!float !x @ ` # \xff""".replace(b"\n", b" ")
VALUES = [
    *["null", "true", "1", "-1", "1e6", "1e999", "nan", ".inf", "abc", "''", "[", "[1,2]", "{a:1}", "{_target_:x}"],
    *["${nope}", "${env.track}", "${oc.env:NO}", "???", "a=b", "~", "'", "\\", "[linear,[0,1]]", "choice(1,2)", "é"],
    *["0x10", "$", "%", "@", "a:b", ",", "==", "${seed", "${}", "${oc.decode:x}", "iqn"],
    *["{a:${b}}", "", " ", "cartpole_iqn"],
]
SLOW_COMPOSED = [pytest.param(seed, 10_000 // COMPOSES, marks=pytest.mark.slow) for seed in range(1, 11)]
FINE = (ConfigError, FolderTakenError, OSError)  # what the command shows as a line


class FolderReached(Exception):
    """All checks have been passed; now the folder would be made."""


def places(settings: Any) -> list[tuple[Any, Any]]:
    """All mappings and lists with their keys, the whole itself left out."""
    found = []
    keys = list(settings) if isinstance(settings, Mapping) else range(len(settings))
    for key in keys:
        found.append((settings, key))
        if isinstance(settings[key], (dict, list)):
            found += places(settings[key])
    return found


def changed(settings: dict[str, Any], generator: random.Random, *, odd: list[Any] = ODD) -> dict[str, Any]:
    """A copy with one to three places changed, taken out, doubled or exchanged."""
    found = copy.deepcopy(settings)
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        room, key = generator.choice(places(found))
        kind = generator.randrange(10)
        if kind < 7:
            room[key] = copy.deepcopy(generator.choice(TARGETS if key == "_target_" else odd))
        elif kind == 7:
            del room[key]
        elif kind == 8 and isinstance(room, dict):
            room[generator.choice(["seeds", "_target_", "_args_", 5, None, f"{key}s"])] = generator.choice(odd)
        else:
            other, place = generator.choice(places(found) or [(room, key)])
            room[key] = copy.deepcopy(other[place])
        if not found:
            break
    return found


def stop(*_: Any, **__: Any) -> NoReturn:
    raise FolderReached


@pytest.fixture
def checks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """``train`` ends where it would make a folder; tracks are not generated one by one, nor threads started."""
    monkeypatch.setattr("tm_torchrl.trainers.run.claim", stop)
    monkeypatch.setattr("tm_torchrl.trainers.run.claim_new", stop)
    monkeypatch.setattr("tm_torchrl.trainers.run.keep_freed_memory", lambda: None)
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.setattr("tm_torchrl.tasks.trackmania.generate_track", lambda seed: load_track("oval"))


def outcome(settings: dict[str, Any] | list[str]) -> str:
    """What ``train`` ends with, if it is what the command knows; with the settings where it is not."""
    try:
        train(settings, is_quiet=True)
    except FINE as error:
        return type(error).__name__
    except FolderReached:
        return "reached"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    raise AssertionError("the folder was not reached")


@pytest.mark.usefixtures("checks_only")
@pytest.mark.parametrize(("seed", "num"), [(0, 2_000), *SLOW])
def test_any_settings_are_refused_in_a_line_or_reach_their_folder(
    seed: int, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(seed)
    bases = [compose_settings(base) for base in BASES]
    build = run.refuse_bad_parts
    ends = []
    for number in range(num):
        is_built = number % BUILDS == 0
        monkeypatch.setattr(
            "tm_torchrl.trainers.run.refuse_bad_parts", build if is_built else lambda settings, task: None
        )
        ends.append(outcome(changed(generator.choice(bases), generator, odd=CHEAP if is_built else ODD)))
    assert num // 4 < ends.count("reached") < num
    assert ends.count("ConfigError") > num // 4


@pytest.mark.usefixtures("checks_only")
@pytest.mark.parametrize(("seed", "num"), [(0, 2_000 // COMPOSES), *SLOW_COMPOSED])
def test_any_words_of_a_command_line_are_refused_in_a_line_or_reach_their_folder(
    seed: int, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tm_torchrl.trainers.run.refuse_bad_parts", lambda settings, task: None)
    generator = random.Random(seed)
    names = names_of(compose_settings(["replay=prioritized"]))
    names += ["experiment", "hydra.run.dir", "a.b", "", "env/x", "@x"]
    ends = []
    for _ in range(num):
        words = [
            generator.choice(["", "", "", "", "+", "++", "~"])
            + generator.choice(names)
            + generator.choice(["=", "=", "=", "=", "", "=="])
            + generator.choice(VALUES)
            for _ in range(generator.randint(1, 2))
        ]
        ends.append(outcome(words))
    assert ends.count("ConfigError") > num // 4


@pytest.mark.parametrize(("seed", "num"), [(0, 2_000), *SLOW])
def test_any_file_of_a_run_is_settings_or_a_config_error(seed: int, num: int, tmp_path: Path) -> None:
    stored = {
        "env": {"_target_": "tm_torchrl.tasks.TrackManiaTask", "track": "oval", "num_envs": 2},
        "objective": {"network": {"_target_": "x", "_partial_": True}, "num_acting_fractions": 8},
        "replay": {"batch_size": 128, "capacity": [[0, 5, 1]]},
        "gamma": ["linear", [0, 0.99]],
        "seed": 0,
    }
    valid = yaml.safe_dump(stored, sort_keys=False).encode()
    path = tmp_path / "config.yaml"
    generator = random.Random(seed)
    num_read = 0
    for _ in range(num):
        kind = generator.random()
        if kind < 0.1:
            content = generator.randbytes(generator.randint(0, 200))
        elif kind < 0.5:
            content = mutated(valid, generator, more=TOKENS)
        else:
            content = retold(valid, generator)
        path.write_bytes(content)
        try:
            found = run_settings(tmp_path)
            differences(found, stored)
            resumed_settings({**found, "resume": "a"}, ["resume=a"], found)
            run_name({"name": None, **found})
        except ConfigError:
            continue
        num_read += 1
        assert isinstance(found["env"], dict)
    assert num // 10 < num_read < num


def names_of(settings: Mapping[str, Any], before: str = "") -> list[str]:
    """As on the command line."""
    found = []
    for key, value in settings.items():
        found.append(before + key)
        if isinstance(value, Mapping):
            found += names_of(value, f"{before}{key}.")
    return found


def retold(content: bytes, generator: random.Random) -> bytes:
    """A file of settings with words of YAML in the place of some values."""
    lines = content.decode().splitlines()
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(lines))
        name, _, _ = lines[at].partition(":")
        lines[at] = f"{name}: {generator.choice(TOKENS.decode('latin1').split(' '))}"
    return "\n".join(lines).encode()
