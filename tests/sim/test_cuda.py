"""The same kernels on a CUDA device."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.sim import Simulator, Starts
from tm_torchrl.tracks import DEFAULT_TRACK, load_track
from tm_torchrl.world.car_row import CAR_ROW

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def drive(device: str, num_cars: int) -> tuple[torch.Tensor, torch.Tensor]:
    simulator = Simulator(
        load_track(DEFAULT_TRACK), num_cars=num_cars, starts=Starts(zone=1.0), seed=3, image_size=64, device=device
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # 1 s
        simulator.step(torch.randint(12, (256,), generator=generator)[:num_cars].to(device))
    return simulator.rows().cpu().clone(), simulator.frames().cpu().clone()


def test_cuda_agrees_with_the_cpu():
    """Only + - * / and roots, no fused operations: positions within a millimetre after 100 ticks."""
    cpu, cpu_frames = drive("cpu", 256)
    cuda, cuda_frames = drive("cuda", 256)
    position = CAR_ROW["position"]
    assert (cpu[:, position] - cuda[:, position]).norm(dim=1).quantile(0.99) < 1e-3
    assert (cpu_frames.float() - cuda_frames.float()).abs().mean() < 1.0


def test_cuda_is_deterministic_for_any_batch():
    many, _ = drive("cuda", 256)
    again, _ = drive("cuda", 256)
    few, _ = drive("cuda", 8)
    assert torch.equal(many, again)
    assert torch.equal(many[:8], few)
