"""What holds for every test: one thread, no window, processes that start quickly, the same examples in every run.

And a simulated Ray cluster on this machine, for those that ask for it.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from hypothesis import settings

from tm_torchrl.collectors.processes import IMPORTED

if sys.platform == "linux":  # as the commands do: each process that is spawned would import torch anew
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(list(IMPORTED))
torch.set_num_threads(1)
settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in this process: ``script("scripts/drive.py", "oval")`` is what ``subprocess.run`` returns."""
    root = Path(__file__).resolve().parents[1]

    def run(path: str, *words: object) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        status, message = 0, ""
        try:
            runpy.run_path(str(root / path), run_name="__main__")
        except SystemExit as ended:
            is_text = isinstance(ended.code, str)
            status, message = (1, f"{ended.code}\n") if is_text else (int(ended.code or 0), "")
        said = capsys.readouterr()
        return subprocess.CompletedProcess([path], status, said.out, said.err + message)

    return run


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that offers four CPUs, to which this process is connected; without dashboard, telemetry and old tokens."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(uuid.uuid4().hex + uuid.uuid4().hex)
    root = str(Path(__file__).resolve().parents[1])
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }
    import ray
    from ray._raylet import Config
    from ray.cluster_utils import Cluster

    Config.initialize("")  # TorchRL has imported Ray before, which reads the environment then

    arguments = {"num_cpus": 4, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
