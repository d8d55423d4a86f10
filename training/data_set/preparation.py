"""Write any data set as one Parquet file of samples and a file of facts about them."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from moodlake.emotions import LabelSpace, from_votes
from moodlake.inference.decoding import decode
from moodlake.inference.faces import find_faces
from moodlake.reasons import Rejected
from training.data_set.samples import SCHEMA
from training.data_set.splits import Fingerprint, fingerprint, near_identical, sample, stratified
from training.datasets.base import Annotated, DatasetError, Image, ImageFile, few_of
from training.files import write_json, written_whole
from training.params import DataParams

_THIRDS = ("low", "middle", "high")
_ROWS_AT_ONCE = 1000
_FACES_SOUGHT = 200
Numbers = NDArray[np.floating]


def prepare(data: Annotated, params: DataParams, samples: Path, facts: Path) -> dict[str, Any]:
    """Write the samples and the facts; returns the facts.

    Training rows whose pixels also occur in another split are dropped and counted, so that no
    model is tested on training images. Near-duplicates of training images are kept in a slice of
    their own. `params.limit` then samples rows. Images are read one at a time to save memory.

    Raises:
        DatasetError: an image cannot be decoded.
    """
    digests, prints, measures = _measure(data)
    groups = near_identical(prints)
    leading = data.votes.argmax(axis=1)
    splits = data.splits or stratified(groups, leading, params.valid_share, params.seed)
    kept = _without_leaks(digests, splits)
    leaks = len(data.ids) - len(kept)
    if params.limit is not None:
        strata = [(splits[index], leading[index]) for index in kept]
        kept = [kept[position] for position in sample(strata, params.limit, params.seed)]
    slices = _slices(
        measures, groups, {groups[index] for index in kept if splits[index] == "train"}, data
    )
    given = {name: n for name, n in data.attributes.items() if isinstance(n, np.ndarray)}
    raw = (
        [None] * len(data.ids) if data.raw_votes is None else data.raw_votes.astype(float).tolist()
    )
    table = {
        "id": data.ids,
        "split": splits,
        "pixels_sha256": digests,
        "votes": data.votes.astype(float).tolist(),
        "raw_votes": raw,
        "distribution": from_votes(data.votes).tolist(),  # of shares too: each row by its sum
        "slices": _by_row(slices, str),
        "measures": _by_row({**measures, **given}, float),
    }
    samples.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(samples) as part, pq.ParquetWriter(part, SCHEMA) as writer:
        for start in range(0, len(kept), _ROWS_AT_ONCE):
            rows = kept[start : start + _ROWS_AT_ONCE]
            columns = {name: [values[index] for index in rows] for name, values in table.items()}
            images = [_encode(data.images[index], data.ids[index]) for index in rows]
            writer.write_table(pa.Table.from_pydict({**columns, "image": images}, schema=SCHEMA))
    content = {
        "name": params.name,
        "label_space": {"name": data.space.name, "emotions": data.space.emotions},
        "faces": data.faces,
        "digest": _digest(table, kept),
        "dropped": {**data.dropped, "also in another split": leaks},
        "rows": dict(Counter(splits[index] for index in kept)),
        "dominant": _count_leading(data.space, leading, splits, kept),
    }
    write_json(facts, content)
    return content


def _by_row(
    columns: Mapping[str, Sequence[Any] | Numbers], kind: type
) -> list[list[tuple[str, Any]]]:
    """Turn columns (N,) by name into a list of (name, value) pairs for each of N rows."""
    rows = zip(*columns.values(), strict=True)
    return [list(zip(columns, map(kind, row), strict=True)) for row in rows]


def _measure(data: Annotated) -> tuple[list[str], Fingerprint, dict[str, Numbers]]:
    """Read all images once: digests of their pixels (N,), fingerprints, brightness and size."""
    digests, prints, measures, unusable = [], [], [], list[str]()
    named = zip(data.images, data.ids, strict=True)
    for image, name in tqdm(named, "images", len(data.ids), disable=not sys.stderr.isatty()):
        try:
            pixels = _pixels(image, name)
        except DatasetError as error:
            unusable.append(str(error))
            continue
        digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        prints.append(fingerprint(pixels))
        grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
        measures.append((float(grey.mean()), float(grey.std()), float(min(grey.shape))))
    if unusable:
        raise DatasetError(
            f"{len(unusable)} of {len(data.ids)} images cannot be used: {few_of(unusable)}; "
            "replace them, or remove them and their rows"
        )
    columns = zip(("brightness", "contrast", "size"), np.array(measures).T, strict=True)
    return digests, Fingerprint.stack(prints), dict(columns)


def _pixels(image: Image, name: str) -> NDArray[np.uint8]:
    if not isinstance(image, ImageFile):
        return image
    try:
        pixels = decode(image.path.read_bytes()).pixels
    except (OSError, Rejected) as error:
        raise DatasetError(f"{image.path} ({error})") from error
    if image.box is not None:
        left, top, right, bottom = image.box
        pixels = pixels[top:bottom, left:right]
    if not pixels.size:
        raise DatasetError(f"{image.path} (of {name}: the box {image.box} lies outside)")
    return pixels


def _encode(image: Image, name: str) -> bytes:
    """Return a file unchanged, or its box or array as PNG."""
    if isinstance(image, ImageFile) and image.box is None:
        return image.path.read_bytes()
    buffer = io.BytesIO()
    PIL.Image.fromarray(_pixels(image, name)).save(buffer, "PNG")
    return buffer.getvalue()


def _without_leaks(digests: Sequence[str], splits: Sequence[str]) -> list[int]:
    named = list(zip(digests, splits, strict=True))
    held_out = {digest for digest, split in named if split != "train"}
    return [
        index
        for index, (digest, split) in enumerate(named)
        if split != "train" or digest not in held_out
    ]


def _slices(
    measures: Mapping[str, Numbers],
    groups: NDArray[np.int64],
    trained: Container[np.int64],
    data: Annotated,
) -> dict[str, Sequence[str]]:
    """Return the slices of each row: brightness, contrast, size, likeness to training images, ...

    Args:
        measures: numbers (N,) by name.
        groups: (N,) of nearly identical images.
        trained: groups of the training images.
        data: its attributes become slices, too.
    """
    seen = ["yes" if group in trained else "no" for group in groups]
    columns = {**measures, "like_a_training_image": seen, **data.attributes}
    return {
        name: _thirds(values) if isinstance(values, np.ndarray) else values
        for name, values in columns.items()
    }


def _thirds(values: Numbers) -> list[str]:
    """Turn numbers (N,) into "low", "middle" or "high"."""
    bounds = np.quantile(values, [1 / 3, 2 / 3])
    return [_THIRDS[part] for part in np.searchsorted(bounds, values, side="left")]


def _digest(table: Mapping[str, Sequence[Any]], kept: Sequence[int]) -> str:
    """Return the SHA-256 over identities, splits, pixels and votes of the kept rows."""
    names = ("id", "split", "pixels_sha256", "votes")
    rows = [{name: table[name][index] for name in names} for index in kept]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _count_leading(
    space: LabelSpace, leading: NDArray[np.int64], splits: Sequence[str], kept: Sequence[int]
) -> dict[str, dict[str, int]]:
    counts = Counter((splits[index], space.emotions[leading[index]]) for index in kept)
    return {
        split: {emotion: counts[split, emotion] for emotion in sorted(space.emotions)}
        for split in sorted(set(splits))
    }


def count_faces(images: Sequence[Image], seed: int) -> tuple[int, int]:
    """Count faces in a random sample of RGB images: (images with a face, images searched)."""
    drawn = np.random.default_rng(seed).permutation(len(images))[:_FACES_SOUGHT]
    found = [bool(find_faces(_pixels(images[index], str(index)))) for index in drawn]
    return sum(found), len(found)
