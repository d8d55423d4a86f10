"""Score many objects with bounded memory: reading, requests and collecting overlap."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from moodlake.emotions import LabelSpace
from moodlake.faces import FaceMode
from moodlake.images import Limits
from moodlake.model import ModelIdentity
from moodlake.prediction import Prediction
from moodlake.reasons import Reason, Rejected
from moodlake.scoring.inventory import Source, SourceObject, content_etag
from moodlake.scoring.tables import make_row

DEFAULT_BATCH_SIZE = 16
_THREADS = 4
_MAX_BATCH_BYTES = 32 * 2**20


class Engine(Protocol):
    """What predicts: a Model in this process, or a ServerClient."""

    identity: ModelIdentity
    space: LabelSpace
    faces: FaceMode
    provenance: dict[str, Any]

    def score(
        self, images: Sequence[bytes], *, faces: FaceMode | None = None
    ) -> list[Prediction]: ...


def score_objects(
    source: Source,
    engine: Engine,
    *,
    run_id: str,
    shard_id: str = "",
    faces: FaceMode | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int = _THREADS,
) -> Iterator[dict[str, Any]]:
    """One results row per object of `source`, in order; memory does not grow with their number.

    Each of `threads` threads reads a batch and then asks for its predictions, so that while some
    read, others predict.

    Args:
        source: what to score.
        engine: what predicts.
        run_id, shard_id: written into the rows.
        faces: which part of the image; None leaves it to the model's default.
        batch_size: images per request.
        threads: batches in flight.

    Raises:
        SourceError, ServerError: the source or the server as a whole failed.
    """

    mode = faces or engine.faces

    def score_batch(items: Sequence[SourceObject]) -> list[dict[str, Any]]:
        named, predictions = _score_batch(source, engine, items, mode)
        return [
            make_row(
                item,
                prediction,
                space=engine.space,
                model=engine.identity,
                faces=mode,
                run_id=run_id,
                shard_id=shard_id,
            )
            for item, prediction in zip(named, predictions, strict=True)
        ]

    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[list[dict[str, Any]]]] = deque()
        try:
            for batch in _batches(source.objects, batch_size):
                pending.append(pool.submit(score_batch, batch))
                if len(pending) > threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _batches(objects: Iterable[SourceObject], batch_size: int) -> Iterator[list[SourceObject]]:
    """At most `batch_size` objects, and bytes that fit a request, at a time."""
    batch: list[SourceObject] = []
    size = 0
    for item in objects:
        if batch and (len(batch) == batch_size or size + item.size > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


def _score_batch(
    source: Source, engine: Engine, items: Sequence[SourceObject], faces: FaceMode
) -> tuple[list[SourceObject], list[Prediction]]:
    """The items, with the ETag filled in where only reading tells it, and their predictions."""
    contents = [_read(source, item) for item in items]
    readable = [content for content in contents if isinstance(content, bytes)]
    predictions = iter(engine.score(readable, faces=faces))
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


def _read(source: Source, item: SourceObject) -> bytes | Rejected:
    limit = Limits().max_bytes
    if item.size > limit:
        return Rejected(Reason.TOO_LARGE, f"{item.size} bytes; the limit is {limit}")
    try:
        return source.read(item)
    except Rejected as error:
        return error.as_value()


def take(rows: Iterator[dict[str, Any]], count: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of at most `count` rows."""
    while chunk := list(itertools.islice(rows, count)):
        yield chunk
