"""Started by `against_fer` in the environment of the package `fer`; does not import moodlake.

Each line of standard input names a folder. For each, it reads all photos and prints "READ", the
number of faces found, and the seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
from fer.fer import FER


def main() -> None:
    """Process folders until the input ends."""
    detector = FER(mtcnn="mtcnn" in sys.argv)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        found = 0
        for path in sorted(Path(line.strip()).iterdir()):
            found += len(detector.detect_emotions(cv2.imread(str(path))) or ())
        print("READ", found, time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
