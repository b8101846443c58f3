"""Plain states: TensorDicts there and back, and objects that are refused."""

from __future__ import annotations

import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from tensordict import MemoryMappedTensor, TensorDict

from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.data.saving.plain_state import from_plain, load_state, to_plain


def test_there_and_back() -> None:
    rows = TensorDict({"x": torch.arange(6).view(3, 2), "next": TensorDict({"y": torch.ones(3, 1)}, [3])}, [3])
    state = OrderedDict(queue=((rows, {"index": torch.arange(3)}),), names=["a", None], share=0.5, is_full=True)
    back = from_plain(to_plain(state))
    assert type(back) is dict and list(back) == list(state)
    assert type(back["queue"]) is tuple and type(back["names"]) is list
    found, info = back["queue"][0]
    assert found.batch_size == torch.Size([3]) and found["next"].batch_size == torch.Size([3])
    assert (found == rows).all() and torch.equal(info["index"], torch.arange(3))
    assert (back["names"], back["share"], back["is_full"]) == (["a", None], 0.5, True)


def test_tensors_own_just_their_own_bytes(tmp_path) -> None:
    large = MemoryMappedTensor.from_tensor(torch.arange(1000), filename=tmp_path / "large")
    for part in (large[:10], torch.arange(1000)[:10], torch.arange(40.0).view(10, 4)[:, 1]):
        plain = to_plain(part)
        assert type(plain) is torch.Tensor
        assert plain.untyped_storage().nbytes() == 10 * plain.element_size()
        assert torch.equal(plain, torch.as_tensor(part))


def test_a_compressed_state_is_refused(tmp_path) -> None:
    """A few bytes may unpack to any number, and ``torch.save`` stores its members as they are."""
    path = tmp_path / "state.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    assert load_state(path)["weight"].shape == (1000,)
    with zipfile.ZipFile(path) as stored:
        contents = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(DamagedFileError, match="compressed"):
        load_state(path)


def test_numbers_of_numpy_become_numbers() -> None:
    plain = to_plain([np.float64(0.5), np.int64(3), np.bool_(True)])
    assert [(type(value), value) for value in plain] == [(float, 0.5), (int, 3), (bool, True)]


def test_objects_are_named() -> None:
    with pytest.raises(TypeError, match=r"buffer\['a'\]\[1\] is a set"):
        to_plain({"a": [1, {2}]}, name="buffer")
