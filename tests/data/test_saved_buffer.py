"""Saved buffers: exact, whole or refused."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.data import DamagedBufferError, MiniRace, NStep, load_buffer, make_replay_buffer, save_buffer
from tm_torchrl.data import saved_buffer as module


def steps(num: int, lanes: int = 2) -> TensorDict:
    """Steps of lanes whose observations count."""
    count = torch.arange(num, dtype=torch.float32).expand(lanes, num).unsqueeze(-1)
    done = torch.zeros(lanes, num, 1, dtype=torch.bool)
    following = {"observation": count + 1, "reward": torch.ones(lanes, num, 1), "done": done, "terminated": done}
    return TensorDict(
        {"observation": count, "action": torch.zeros(lanes, num).long(), "next": {**following, "truncated": done}},
        [lanes, num],
    )


def build(**options) -> object:
    settings = {"capacity": 50, "batch_size": 8, "prioritized": True, "n_step": NStep(3, gamma=0.99), "seed": 0}
    return make_replay_buffer(**{**settings, **options})


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", ["memory", "frames"])
def test_goes_on_bit_for_bit(tmp_path: Path, prioritized: bool, storage: str) -> None:
    def make() -> object:
        n_step = NStep(3, gamma=0.99, frame_ids=storage == "frames")
        race = MiniRace(seed=3, clock_index=0)
        return build(prioritized=prioritized, storage=storage, n_step=n_step, mini_race=race)

    whole = make()
    for _ in range(3):  # wraps around
        whole.extend(steps(11))
    if prioritized:
        whole.update_tensordict_priority(whole.sample().set("td_error", torch.rand(8, 1)))
    save_buffer(whole, tmp_path / "replay")
    again = make()
    load_buffer(again, tmp_path / "replay")
    for buffer in (whole, again):
        buffer.extend(steps(7))
    for _ in range(3):
        first, second = whole.sample(), again.sample()
        assert set(first.keys(True, True)) == set(second.keys(True, True))
        assert all(torch.equal(first[key], second[key]) for key in first.keys(True, True))


def saved(tmp_path: Path) -> Path:
    buffer = build()
    buffer.extend(steps(10))
    return save_buffer(buffer, tmp_path / "replay")


def test_cut_short_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    content = (folder / "buffer.pt").read_bytes()
    (folder / "buffer.pt").write_bytes(content[:-100])
    with pytest.raises(
        DamagedBufferError, match=rf"buffer.pt has {len(content) - 100} bytes instead of {len(content)}"
    ):
        load_buffer(build(), folder)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (folder / "buffer.pt").write_bytes(flipped)
    with pytest.raises(DamagedBufferError, match=r"buffer\.pt does not match its checksum"):
        load_buffer(build(), folder)
    (folder / "buffer.pt").unlink()
    with pytest.raises(DamagedBufferError, match=r"buffer\.pt is missing"):
        load_buffer(build(), folder)
    (folder / "manifest.json").write_text('{"version": 1, "sett')
    with pytest.raises(DamagedBufferError, match=r"manifest\.json is missing or cut short"):
        load_buffer(build(), folder)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_buffer(build(), tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"capacity": 60}, "capacity: 50 there, 60 here"),
        ({"alpha": 0.7}, "alpha: 0.6 there, 0.7 here"),
        ({"prioritized": False}, "sampler: 'PrioritizedSampler' there, 'RandomSampler' here"),
        ({"storage": "memmap"}, "storage: 'LazyTensorStorage' there, 'LazyMemmapStorage' here"),
        ({"n_step": None}, "transforms: ['NStep'] there, [] here"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, options: dict, difference: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"differs in {difference}")):
        load_buffer(build(**options), saved(tmp_path))


def test_other_entries_are_refused(tmp_path: Path) -> None:
    other = build()
    wide = steps(10)
    wide["observation"] = wide["observation"].expand(2, 10, 3).clone()
    wide["next", "observation"] = wide["next", "observation"].expand(2, 10, 3).clone()
    other.extend(wide)
    with pytest.raises(
        ValueError, match=r"entry 'next.observation': torch.float32 \[1\] there, torch.float32 \[3\] here"
    ):
        load_buffer(other, saved(tmp_path))


def test_a_replacement_cut_off_anywhere_leaves_a_loadable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = build()
    newer.extend(steps(20))
    lengths = {}

    class Killed(BaseException):
        pass

    real = {name: getattr(module.os, name) for name in ("fsync",)} | {"rename": Path.rename}
    for kill_at in range(6):
        calls, folder = 0, saved(tmp_path / str(kill_at))

        def counting(function):
            def call(*arguments):
                nonlocal calls
                calls += 1
                if calls > kill_at:  # noqa: B023
                    raise Killed
                return function(*arguments)

            return call

        monkeypatch.setattr(module.os, "fsync", counting(real["fsync"]))
        monkeypatch.setattr(Path, "rename", counting(real["rename"]))
        with contextlib.suppress(Killed):
            save_buffer(newer, folder)
        monkeypatch.setattr(module.os, "fsync", real["fsync"])
        monkeypatch.setattr(Path, "rename", real["rename"])
        found = build()
        load_buffer(found, folder)
        lengths[kill_at] = len(found)
    # Before both files are on the disk, and until the new folder is renamed, the old one (2 * 8) is found.
    assert lengths == {0: 16, 1: 16, 2: 16, 3: 16, 4: 36, 5: 36}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    with pytest.raises(FileExistsError, match="thesis"):
        save_buffer(build(), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "words"


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.save({"evil": Path("x")}, folder / "buffer.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / "buffer.pt"
    manifest["files"]["buffer.pt"] = {"bytes": path.stat().st_size, "crc32": module._checksum(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_buffer(build(), folder)
