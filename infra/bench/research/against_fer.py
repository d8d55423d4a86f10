"""Benchmark against the package `fer`, from photos to distributions with face detection.

Run it with `make bench-fer`. `fer` (https://pypi.org/project/fer, MIT) runs in its own environment
with its default threads, moodlake with a thread per core; both read the same files in turns. Goal:
5 times as many images/s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.bench.images import encoded, photos_with_faces
from moodlake.inference.model import Model
from moodlake.prediction import FaceMode
from moodlake.settings import RELEASED_ARCHIVE

_TURNS = 5
_PART = 4
_PHOTOS = {(400, 300): 48, (640, 480): 32, (1024, 768): 24, (1600, 1200): 16}


class Fer:
    """`fer` in a separate process.

    Args:
        python: interpreter of the environment that contains `fer`.
        detector: "haar", its default, or "mtcnn".
    """

    def __init__(self, python: Path, detector: str) -> None:
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("fer_worker.py")), detector],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ""},
            text=True,
        )
        while (line := self._answer()) != "ready":
            if not line:
                raise SystemExit(f"{python} cannot import `fer`; install it there with pip")

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        return line.strip()

    def read(self, folder: Path) -> tuple[int, float]:
        """Return the number of faces found in a folder, and the seconds."""
        assert self._process.stdin
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        while not (line := self._answer()).startswith("READ "):  # skip other output
            if self._process.poll() is not None:
                raise SystemExit("the process of `fer` ended")
        _, found, seconds = line.split()
        return int(found), float(seconds)

    def __enter__(self) -> Fer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def read(model: Model, folder: Path) -> tuple[int, float]:
    """Return the number of faces that moodlake finds in a folder, and the seconds."""
    cores = os.cpu_count() or 1
    started = time.perf_counter()
    paths = sorted(folder.iterdir())
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]

    def score(part: Sequence[Path]) -> int:
        predictions = model.score([path.read_bytes() for path in part], faces=FaceMode.ALL)
        return sum(len(prediction.faces) for prediction in predictions)

    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(score, parts)), time.perf_counter() - started


def fill(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Create a folder of photos of a size, each with one face."""
    made = folder / f"{size[0]} x {size[1]}"
    made.mkdir()
    for number, photo in enumerate(photos_with_faces(count)):
        (made / f"{number:03}.jpg").write_bytes(encoded(photo.resize(size)))
    return made


def measure(python: Path) -> Table:
    """Run the benchmark; return the table of results."""
    model = Model.load(RELEASED_ARCHIVE, streams=os.cpu_count() or 1)
    results = Table("photos", "fer's detector", "fer, images/s", "moodlake, images/s", "ratio")
    with tempfile.TemporaryDirectory() as temporary:
        folders = {fill(Path(temporary), *each): each[1] for each in _PHOTOS.items()}
        for detector in ("haar", "mtcnn"):
            with Fer(python, detector) as other:
                for folder, count in folders.items():
                    results.add_row(folder.name, detector, *_beside(other, model, folder, count))
    return results


def _beside(other: Fer, model: Model, folder: Path, count: int) -> tuple[str, str, str]:
    pairs = [(other.read(folder), read(model, folder)) for _ in range(_TURNS + 1)][1:]
    rates = count / np.array([[theirs[1], ours[1]] for theirs, ours in pairs])
    found = [f"{faces} of {count} found" for faces, _ in pairs[0]]
    theirs, ours = np.median(rates, axis=0)
    ratios = rates[:, 1] / rates[:, 0]
    return (
        f"{theirs:.1f} ({found[0]})",
        f"{ours:.1f} ({found[1]})",
        f"{np.median(ratios):.1f} ({ratios.min():.1f} to {ratios.max():.1f})",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, help="interpreter of the environment with `fer`")
    Console().print(measure(parser.parse_args().python))
