"""Random bytes, mutated files and absurd arrays give a track, or a ValueError that names the file."""

from __future__ import annotations

import io
import random
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.mutated_bytes import mutated
from tm_torchrl.tracks import Track, from_centreline
from tm_torchrl.tracks.files.gbx_files import read_drive, read_map
from tm_torchrl.tracks.files.line_files import resampled
from tm_torchrl.tracks.files.track_files import ARRAYS, SCALARS

SLOW = [pytest.param(seed, 10_000, marks=pytest.mark.slow) for seed in range(1, 11)]


def straight() -> Track:
    """A short road: its file is small, and so are the steps from one defect to the next."""
    run = np.arange(40.0)
    return Track("ruler", np.stack([0 * run, 0 * run, run], axis=1), start=5, finish=35, checkpoints=np.array([15, 25]))


class Trap:
    """An object whose unpickling would be seen."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ("something pickled was executed",))


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def claiming(generator: random.Random) -> bytes:
    """A .npy file whose header does not describe what follows it."""
    shapes = ["(1000000000, 3)", "(40, 3)", "(-40, 3)", "()", "(10**9,)", "(9223372036854775807, 3)", "(2.5,)", "40",
              "(True,)", "(99999999999999999999999,)", "[40, 3]", "None", "(0, 3)", "((((40))))", "(40, 3"]  # fmt: skip
    kinds = ["'<f8'", "'|O'", "'<f2'", "'|V9'", "'<U1000000000'", "[('a', '<f8')]", "'?'", "'<c16'", "'nonsense'", "8",
             "'>i8'", "('<f8', (2,))", "('<f8',)", "()", "None", "'<M8[s]'", "{}", "'<f8,<f8'", "'S0'"]  # fmt: skip
    order = generator.choice(["True", "False", "None", "1"])
    header = f"{{'descr': {generator.choice(kinds)}, 'fortran_order': {order}, 'shape': {generator.choice(shapes)}, }}"
    if generator.random() < 0.2:
        header = generator.choice(["(" * 5000, "{}", "[1" * 3000, "'" * 9, "\0", "-" * 9000 + "1", "import os"])
    text = header.encode("latin1") + b"\n"
    version = generator.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0"])
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text + generator.randbytes(generator.choice([0, 8, 960]))


def absurd(good: np.ndarray, generator: random.Random) -> bytes:
    """Another array in place of a good one, as the bytes of a .npy file."""
    kind = generator.randrange(12)
    if kind == 0:
        return claiming(generator)
    if kind == 1:
        return npy(np.array([Trap()], dtype=object))
    if kind == 2:
        return npy(
            (good if good.dtype.kind in "fib" else np.ones(40)).astype(
                generator.choice(["<f4", ">f8", "<c16", "<i8", "|b1", "<U40", "<f2", "|S40"])
            )
        )
    if kind == 3:
        return npy(np.zeros(generator.choice([(), (0,), (0, 3), (3, 40), (40, 3, 1), (19, 3), (2, 2)])))
    if kind == 4:
        return npy(np.array(generator.choice(["", "oval", "nan", True, -1, 2**63, 3.5, np.nan, 1e300, "2020-01-01"])))
    if kind == 5:
        return npy(np.array("2020-01-01", "<M8[s]") if generator.random() < 0.5 else np.zeros(3, [("a", "<f8")]))
    if kind == 6:
        return mutated(npy(good), generator)
    if kind == 7 and good.dtype.kind == "f":
        return npy(good + generator.choice([1e-6, 0.01, 0.4]) * np.array(generator.random()))
    if good.dtype.kind not in "fiub":
        return npy(good)
    changed = np.array(good, np.float64, ndmin=1)
    odd = [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, -1e300, 1e18, 2.0**63, 1e-300, 0.5, 16.0, 39.0, 40.0, 255.0]
    for _ in range(generator.randint(1, 3)):
        if changed.size:
            changed.reshape(-1)[generator.randrange(changed.size)] = generator.choice(odd)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = changed.astype(good.dtype) if generator.random() < 0.5 else changed
    return npy(kept.reshape(good.shape))


def container(generator: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """A valid .npz, some of whose arrays are absurd, absent, duplicate, or compressed by another method."""
    ways = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    chosen = generator.choices(list(arrays), k=generator.randint(1, 2))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", generator.choices(ways, [8, 4, 1, 1])[0]) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, good in arrays.items():
            if name in chosen and generator.random() < 0.1:
                continue
            archive.writestr(f"{name}.npy", absurd(good, generator) if name in chosen else npy(good))
        if generator.random() < 0.1:
            archive.writestr(generator.choice(["other", "name.npy", "../name.npy", "é"]), b"abc")
    return content.getvalue()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)


@pytest.mark.parametrize(("seed", "num"), [(0, 600), *SLOW])
def test_any_file_is_a_track_or_a_value_error_that_names_it(seed: int, num: int, tmp_path: Path) -> None:
    path = tmp_path / "track.npz"
    arrays = arrays_of(straight().save(path))
    packed = path.read_bytes()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    plain = path.read_bytes()
    generator = random.Random(seed)
    messages: list[str] = []
    for _ in range(num):
        kind = generator.random()
        if kind < 0.1:
            content = generator.randbytes(generator.randint(0, 400))
        elif kind < 0.5:
            content = mutated(generator.choice([packed, plain]), generator, more=plain)
        else:
            content = container(generator, arrays)
        path.write_bytes(content)
        try:
            track = Track.load(path)
        except ValueError as error:
            messages.append(str(error))
            continue
        assert set(ARRAYS) | set(SCALARS) <= set(vars(track))
        assert np.isfinite(track.gates).all()
        assert np.isfinite(track.zones.centers).all()
    assert num // 3 < len(messages) < num
    assert all("track.npz" in message for message in messages)


@pytest.mark.parametrize(("seed", "num"), [(0, 600), *SLOW])
def test_any_file_is_a_line_or_a_value_error(seed: int, num: int, tmp_path: Path) -> None:
    run = np.arange(0.0, 60.0, 0.5)
    good = np.stack([0 * run, 0 * run, run], axis=1)
    valid = npy(good)
    path = tmp_path / "line.npy"
    generator = random.Random(seed)
    num_errors = 0
    for _ in range(num):
        kind = generator.random()
        if kind < 0.1:
            content = generator.randbytes(generator.randint(0, 400))
        elif kind < 0.5:
            content = mutated(valid, generator)
        elif kind < 0.55:
            content = container(generator, {"line": good})
        else:
            content = absurd(good, generator)
        path.write_bytes(content)
        try:
            track = from_centreline(path, width=8.0, is_circuit=generator.random() < 0.2, is_drivable=False)
        except ValueError:
            num_errors += 1
            continue
        assert np.isfinite(track.gates).all()
    assert num_errors > num // 3


def anything(generator: random.Random) -> Any:
    """What a parser may have left in a field of a damaged file."""
    odd = [None, 0, 1, -1, 2**32 - 1, 0.5, float("nan"), float("inf"), 1e300, "", "Checkpoint", b"x", [], [1], {}]
    return generator.choice(odd)


def parser_of(generator: random.Random) -> ModuleType:
    """A module with pygbx's interface, whose every field may hold something else than it should."""

    def maybe(good: Any) -> Any:
        return anything(generator) if generator.random() < 0.05 else good

    def place() -> SimpleNamespace:
        x, y, z = (maybe(generator.uniform(0.0, 900.0)) for _ in range(3))
        return SimpleNamespace(x=x, y=y, z=z, as_array=lambda: maybe([x, y, z]))

    def ghost() -> SimpleNamespace:
        records = [SimpleNamespace(position=maybe(place())) for _ in range(generator.randint(0, 6))]
        return SimpleNamespace(
            records=maybe(records),
            race_time=maybe(500),
            cp_times=maybe([250, 500]),
            num_respawns=maybe(0),
            sample_period=maybe(100),
        )

    def challenge() -> SimpleNamespace:
        blocks = [SimpleNamespace(name=maybe("StadiumRoadMainCheckpoint"), position=maybe(place())) for _ in range(3)]
        return SimpleNamespace(map_name=maybe("A01"), environment=maybe("Stadium"), blocks=maybe(blocks))

    class Gbx:
        def __init__(self, path: str) -> None: ...

        def get_classes_by_ids(self, kinds: list[str]) -> Any:
            made = {"ghost": ghost, "challenge": challenge, "replay": lambda: SimpleNamespace(track=maybe(self))}
            return maybe([maybe(made[kind]()) for kind in kinds if generator.random() < 0.8])

    module = ModuleType("pygbx")
    names = SimpleNamespace(CTN_GHOST="ghost", CHALLENGE="challenge", CHALLENGE_OLD="challenge", REPLAY_RECORD="replay")
    module.Gbx, module.GbxType = Gbx, names  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(("seed", "num"), [(0, 600), *SLOW])
def test_whatever_a_parser_leaves_in_a_replay_is_a_drive_or_a_value_error(
    seed: int, num: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.Replay.Gbx"
    path.write_bytes(b"GBX")
    generator = random.Random(seed)
    messages: list[str] = []
    for _ in range(num):
        monkeypatch.setitem(sys.modules, "pygbx", parser_of(generator))
        try:
            line = resampled(read_drive(path).positions)
            facts = read_map(path)
        except ValueError as error:
            messages.append(str(error))
            continue
        assert np.isfinite(line).all()
        assert facts.checkpoints.shape[1:] == (3,)
    assert 0 < len(messages) < num - num // 20
    assert all("a.Replay.Gbx" in message for message in messages)
