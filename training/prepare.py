"""Stage `prepare`: any data set to one Parquet file that the other stages read."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from moodlake.emotions import dominant, from_votes
from training.datasets import load_dataset
from training.datasets.base import Annotated, DatasetError
from training.files import write_json
from training.params import ParamsError, load_params
from training.samples import FACTS_FILE, SAMPLES_FILE, SCHEMA


def prepare(data: Annotated, name: str, samples: Path, facts: Path) -> dict[str, Any]:
    """Write the samples and the facts; returns the facts.

    Training rows whose pixels also occur in the validation split are dropped and counted: a
    model must not be tested on what it has learnt.
    """
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in data.pixels]
    held_out = {
        digest for digest, split in zip(digests, data.splits, strict=True) if split == "valid"
    }
    kept = [
        index
        for index, (digest, split) in enumerate(zip(digests, data.splits, strict=True))
        if split == "valid" or digest not in held_out
    ]
    rows = pa.Table.from_pydict(
        {
            "id": [data.ids[index] for index in kept],
            "split": [data.splits[index] for index in kept],
            "image": [_encode(data.pixels[index]) for index in kept],
            "pixels_sha256": [digests[index] for index in kept],
            "votes": data.votes[kept].astype(float).tolist(),
            "distribution": from_votes(data.votes[kept]).tolist(),
        },
        schema=SCHEMA,
    )
    content = {
        "name": name,
        "label_space": {"name": data.space.name, "emotions": data.space.emotions},
        "faces": data.faces,
        "digest": _digest(rows),
        "dropped": {**data.dropped, "also in validation": len(data.ids) - len(kept)},
        "rows": dict(Counter(rows["split"].to_pylist())),
        "dominant": _count_dominant(data, kept),
    }
    samples.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, samples)
    write_json(facts, content)
    return content


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _digest(rows: pa.Table) -> str:
    columns = rows.select(["id", "split", "pixels_sha256", "votes"]).to_pylist()
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def _count_dominant(data: Annotated, kept: list[int]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {"train": Counter(), "valid": Counter()}
    for index in kept:
        counts[data.splits[index]][dominant(data.votes[index], data.space)] += 1
    return {split: dict(sorted(counter.items())) for split, counter in counts.items()}


def main() -> None:
    """Run the stage."""
    try:
        params = load_params().data
        facts = prepare(load_dataset(params), params.name, SAMPLES_FILE, FACTS_FILE)
    except (DatasetError, ParamsError) as error:
        sys.exit(f"prepare: {error}")
    print(f"{facts['name']}: {facts['rows']}, dropped: {facts['dropped']}")


if __name__ == "__main__":
    main()
