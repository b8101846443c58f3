"""Videos as MP4, through the ffmpeg program, or as GIF; the file appears only when it is complete."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.lazy import extras_named


def write_video(frames: Iterable[np.ndarray], path: str | Path, *, fps: int = 20) -> Path:
    """Write a video; raises a ``RuntimeError`` if ffmpeg fails.

    Args:
        frames: Pictures uint8 ``[H, W, 3]`` of one size; those of a generator are not kept in memory for MP4.
        path: File that ends in ``.mp4`` or ``.gif``.
        fps: Pictures per second.
    """
    path = Path(path)
    require_writer(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        (_write_mp4 if path.suffix == ".mp4" else _write_gif)(_checked(frames), partial, fps)
    return path


def require_writer(path: str | Path) -> None:
    """Raise an error if no video can be written to this file: by its ending, or because ffmpeg is missing."""
    ending = Path(path).suffix
    if ending not in (".mp4", ".gif"):
        raise ValueError(f"path={str(path)!r}: must end in .mp4 or .gif")
    if ending == ".mp4":
        _ffmpeg()


def _ffmpeg() -> str:
    with extras_named():
        import imageio_ffmpeg
    try:
        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise FileNotFoundError(f"MP4 needs ffmpeg, GIF does not: {error}") from error
    return program


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"frames: number {number} is {frame.dtype} {frame.shape}; must be uint8 (H, W, 3)")
        shape = frame.shape if shape is None else shape
        if frame.shape != shape:
            raise ValueError(f"frames: number {number} has the shape {frame.shape}; must be {shape} as the first")
        yield frame
    if shape is None:
        raise ValueError("frames: must hold at least one picture")


def _write_mp4(frames: Iterable[np.ndarray], path: Path, fps: int) -> None:
    source = iter(frames)
    first = next(source)
    size = f"{first.shape[1]}x{first.shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "-"]
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]  # the codec needs even sizes
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
    command = [_ffmpeg(), "-y", "-loglevel", "error", *raw, *even, *target, "-f", "mp4", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            for frame in itertools.chain([first], source):
                process.stdin.write(np.ascontiguousarray(frame).tobytes())
        except BrokenPipeError:
            pass  # the reason is in ffmpeg's message, which is raised below
        except BaseException:
            process.kill()
            raise
        _, message = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"ffmpeg failed: {message.decode(errors='replace').strip()}")


def _write_gif(frames: Iterable[np.ndarray], path: Path, fps: int) -> None:
    pictures = [Image.fromarray(frame).quantize(128) for frame in frames]
    pictures[0].save(
        path, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=True
    )
