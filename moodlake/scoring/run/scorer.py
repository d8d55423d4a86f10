"""Score many objects with bounded memory: reading, requests and collecting overlap."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

from moodlake.emotions import LabelSpace
from moodlake.inference.decoding import Limits
from moodlake.prediction import FaceMode, ModelIdentity, Prediction
from moodlake.reasons import Rejected
from moodlake.scoring.defaults import DEFAULT_BATCH_SIZE
from moodlake.scoring.run.concurrency import ConcurrencyLimit
from moodlake.scoring.run.shards import weight_of
from moodlake.scoring.sources.objects import Source, SourceObject, check_size, content_etag
from moodlake.scoring.sources.s3 import DOWNLOAD_THREADS as READERS
from moodlake.scoring.tables.schema import make_row
from moodlake.timings import Stopwatch

_MOST_REQUESTS = 16
_READ_AHEAD = 2
_MAX_BATCH_BYTES = 32 * 2**20
_MAX_BYTES = 256 * 2**20  # of all batches that are read or asked for

Reading = Future[bytes | Rejected]


class Engine(Protocol):
    """What predicts: a Model in this process, or a ServerClient."""

    identity: ModelIdentity
    space: LabelSpace
    faces: FaceMode
    provenance: dict[str, Any]

    def score(
        self, images: Sequence[bytes], *, faces: FaceMode | None = None
    ) -> list[Prediction]: ...


@runtime_checkable
class ThrottlingEngine(Protocol):
    """An engine that may ask for fewer requests at once, such as a ServerClient."""

    @property
    def throttled(self) -> int:
        """Number of answers so far that asked for it."""


def score_objects(
    source: Source,
    engine: Engine,
    *,
    run_id: str,
    shard_id: str = "",
    faces: FaceMode | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    stopwatch: Stopwatch | None = None,
) -> Generator[dict[str, Any], None, None]:
    """One results row per object of `source`, in order; memory does not grow with their number.

    Objects are read ahead by many threads, while others ask for predictions, as many at once as
    the engine answers without queueing them.

    Args:
        source: what to score.
        engine: what predicts.
        run_id, shard_id: written into the rows.
        faces: which part of the image; None leaves it to the model's default.
        batch_size: images per request.
        stopwatch: what the steps `read` and `request` take is added to it, for each thread.

    Raises:
        SourceError, ServerError: the source or the server as a whole failed.
    """
    mode = faces or engine.faces
    pace, stopwatch = ConcurrencyLimit(_MOST_REQUESTS), stopwatch or Stopwatch()

    to_row = partial(
        make_row,
        space=engine.space,
        model=engine.identity,
        faces=mode,
        run_id=run_id,
        shard_id=shard_id,
    )

    def score(items: Sequence[SourceObject], reading: Sequence[Reading]) -> list[dict[str, Any]]:
        named, predictions = _score_batch(engine, items, reading, mode, pace, stopwatch)
        return [to_row(*pair) for pair in zip(named, predictions, strict=True)]

    pending: deque[tuple[int, Future[list[dict[str, Any]]]]] = deque()
    readers, askers = ThreadPoolExecutor(READERS), ThreadPoolExecutor(_MOST_REQUESTS)
    try:
        for batch in _batches(source.objects, batch_size):
            size = sum(map(_bytes_of, batch))
            while pending and (
                len(pending) > pace.limit + _READ_AHEAD
                or sum(waiting for waiting, _ in pending) + size > _MAX_BYTES
            ):
                yield from pending.popleft()[1].result()
            reading = [readers.submit(_read, source, item, stopwatch) for item in batch]
            pending.append((size, askers.submit(score, batch, reading)))
        while pending:
            yield from pending.popleft()[1].result()
    finally:
        pace.stop()
        for pool in (readers, askers):
            pool.shutdown(cancel_futures=True)


def _batches(objects: Iterable[SourceObject], batch_size: int) -> Iterator[list[SourceObject]]:
    """At most `batch_size` objects, and bytes that fit a request, at a time."""
    batch: list[SourceObject] = []
    size = 0
    for item in objects:
        if batch and (len(batch) == batch_size or size + _bytes_of(item) > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += _bytes_of(item)
    if batch:
        yield batch


def _bytes_of(item: SourceObject) -> int:
    """What it takes of memory: one that is too large is not read."""
    return item.size if item.size <= Limits().max_bytes else 0


def _score_batch(
    engine: Engine,
    items: Sequence[SourceObject],
    reading: Sequence[Reading],
    faces: FaceMode,
    pace: ConcurrencyLimit,
    stopwatch: Stopwatch,
) -> tuple[list[SourceObject], list[Prediction]]:
    """The items, with the ETag filled in where only reading tells it, and their predictions."""
    contents = [future.result() for future in reading]
    readable = [content for content in contents if isinstance(content, bytes)]
    predictions = iter(_ask(engine, readable, faces, pace, stopwatch))
    named = [
        replace(item, etag=item.etag or content_etag(content))
        if isinstance(content, bytes)
        else item
        for item, content in zip(items, contents, strict=True)
    ]
    return named, [
        next(predictions) if isinstance(content, bytes) else Prediction.rejected(content)
        for content in contents
    ]


def _ask(
    engine: Engine,
    images: Sequence[bytes],
    faces: FaceMode,
    pace: ConcurrencyLimit,
    stopwatch: Stopwatch,
) -> list[Prediction]:
    if not images:
        return []
    with pace.request():
        throttled, started = _throttled(engine), time.monotonic()
        with stopwatch.step("request"):
            predictions = engine.score(images, faces=faces)
        seconds = time.monotonic() - started
    if _throttled(engine) > throttled:
        pace.refused(seconds)
    elif all(prediction.width for prediction in predictions):  # what is no image takes no time
        pace.answered(seconds, sum(weight_of(len(data)) for data in images))
    return predictions


def _throttled(engine: Engine) -> int:
    return engine.throttled if isinstance(engine, ThrottlingEngine) else 0


def _read(source: Source, item: SourceObject, stopwatch: Stopwatch) -> bytes | Rejected:
    try:
        check_size(item)
        with stopwatch.step("read"):
            return source.read(item)
    except Rejected as error:
        return error.as_value()


def take(rows: Iterator[dict[str, Any]], count: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of at most `count` rows."""
    while chunk := list(itertools.islice(rows, count)):
        yield chunk
