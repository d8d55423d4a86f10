"""Score many objects in bounded memory, overlapping reads, requests and the collection of rows."""

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
_MAX_BYTES = 256 * 2**20  # of all batches in memory

Reading = Future[bytes | Rejected]


class Engine(Protocol):
    """A predictor: a Model in this process, or a ServerClient."""

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
    """Yield one results row per object of `source`, in order, in bounded memory.

    Some threads read objects ahead while others request predictions, as many at once as the
    engine answers without queueing them.

    Args:
        source: objects to score.
        engine: predictor.
        run_id, shard_id: values for the rows.
        faces: part of the image to score; None for the model's default.
        batch_size: images per request.
        stopwatch: collects the seconds of the steps `read` and `request`, summed over threads.

    Raises:
        SourceError, ServerError: the source or the server as a whole failed.
    """
    mode = faces or engine.faces
    limit, stopwatch = ConcurrencyLimit(_MOST_REQUESTS), stopwatch or Stopwatch()

    to_row = partial(
        make_row,
        space=engine.space,
        model=engine.identity,
        faces=mode,
        run_id=run_id,
        shard_id=shard_id,
    )

    def score(items: Sequence[SourceObject], reading: Sequence[Reading]) -> list[dict[str, Any]]:
        named, predictions = _score_batch(engine, items, reading, mode, limit, stopwatch)
        return [to_row(*pair) for pair in zip(named, predictions, strict=True)]

    pending: deque[tuple[int, Future[list[dict[str, Any]]]]] = deque()
    readers, requesters = ThreadPoolExecutor(READERS), ThreadPoolExecutor(_MOST_REQUESTS)
    try:
        for batch in _batches(source.objects, batch_size):
            size = sum(map(_bytes_of, batch))
            while pending and (
                len(pending) > limit.limit + _READ_AHEAD
                or sum(in_flight_bytes for in_flight_bytes, _ in pending) + size > _MAX_BYTES
            ):
                yield from pending.popleft()[1].result()
            reading = [readers.submit(_read, source, item, stopwatch) for item in batch]
            pending.append((size, requesters.submit(score, batch, reading)))
        while pending:
            yield from pending.popleft()[1].result()
    finally:
        limit.stop()
        for pool in (readers, requesters):
            pool.shutdown(cancel_futures=True)


def _batches(objects: Iterable[SourceObject], batch_size: int) -> Iterator[list[SourceObject]]:
    """Group objects into batches of at most `batch_size` objects and _MAX_BATCH_BYTES."""
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
    """Return the memory that an object takes: objects over the size limit are not read."""
    return item.size if item.size <= Limits().max_bytes else 0


def _score_batch(
    engine: Engine,
    items: Sequence[SourceObject],
    reading: Sequence[Reading],
    faces: FaceMode,
    limit: ConcurrencyLimit,
    stopwatch: Stopwatch,
) -> tuple[list[SourceObject], list[Prediction]]:
    """Return the objects with their predictions; the ETag of a local file is its content's."""
    contents = [future.result() for future in reading]
    readable = [content for content in contents if isinstance(content, bytes)]
    predictions = iter(_request(engine, readable, faces, limit, stopwatch))
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


def _request(
    engine: Engine,
    images: Sequence[bytes],
    faces: FaceMode,
    limit: ConcurrencyLimit,
    stopwatch: Stopwatch,
) -> list[Prediction]:
    if not images:
        return []
    with limit.request():
        throttled, started = _throttled(engine), time.monotonic()
        with stopwatch.step("request"):
            predictions = engine.score(images, faces=faces)
        seconds = time.monotonic() - started
    if _throttled(engine) > throttled:
        limit.throttled(seconds)
    elif all(prediction.width for prediction in predictions):  # rejected input takes no time
        limit.answered(seconds, sum(weight_of(len(data)) for data in images))
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
    """Group rows into lists of at most `count`."""
    while chunk := list(itertools.islice(rows, count)):
        yield chunk
