"""What is said where Ray is missing, or does not answer, and where an actor has ended."""

from __future__ import annotations

import sys

import pytest

from tests.collectors.test_supervised import needs_ray
from tm_torchrl.collectors.on_ray.session import connect
from tm_torchrl.collectors.on_ray.worker import reason
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training

KILLED = """The actor died unexpectedly before finishing this task.
	class_name: CollectingActor
	pid: 390
	ip: 10.0.0.7
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: ..."""
NODE = """The actor died unexpectedly before finishing this task.
	ip: 10.0.0.7
The actor died because its node has died. Node Id: 7f3c"""


def test_a_missing_ray_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = compose_settings(["experiment=cartpole_iqn", "precision=float32", "collector=ray"])
    with pytest.raises(ModuleNotFoundError, match=r'ray is not installed: pip install "tm_torchrl\[ray\]"'):
        make_training(settings, make_task(settings))


@needs_ray
def test_a_cluster_that_does_not_answer_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refused(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(ValueError, match=r"address='auto': .*running Ray instance.*ray start --head") as found:
        connect("auto")
    assert "More" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (KILLED, "ended on 10.0.0.7: its process was killed or crashed"),
        (NODE, "ended on 10.0.0.7: its node has ended or does not answer"),
        ("Something\n else", "ended: RuntimeError: Something else"),
    ],
)
def test_long_errors_become_one_line(text: str, line: str) -> None:
    assert reason(RuntimeError(text)) == line


def test_the_number_of_workers_is_checked_before_ray_starts() -> None:
    settings = compose_settings(["experiment=cartpole_iqn", "collector=ray", "collector.num_workers=3"])
    with pytest.raises(ConfigError, match=r"num_workers=3: cannot share env\.num_envs=8"):
        make_training(settings, make_task(settings))
