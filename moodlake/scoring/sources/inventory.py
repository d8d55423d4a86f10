"""S3 Inventory: daily listings by S3, for buckets too large to list.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, fs, orc
from pyarrow import parquet as pq

from moodlake.scoring.sources import storage
from moodlake.scoring.sources.objects import LISTING_SCHEMA, SetupError, SourceError

# Columns of a listing -> their names in the formats.
_OF_CSV = {
    "key": "Key",
    "version_id": "VersionId",
    "etag": "ETag",
    "size": "Size",
    "last_modified": "LastModifiedDate",
}
_OF_OTHERS = {
    "key": "key",
    "version_id": "version_id",
    "etag": "e_tag",
    "size": "size",
    "last_modified": "last_modified_date",
}
_WANTED = ("key", "etag", "size", "last_modified")
_LATEST = {"CSV": "IsLatest", "Parquet": "is_latest", "ORC": "is_latest"}
_MARKER = {"CSV": "IsDeleteMarker", "Parquet": "is_delete_marker", "ORC": "is_delete_marker"}


def inventory_pages(manifest: str, bucket: str, prefix: str = "") -> Iterator[pa.RecordBatch]:
    """Yield the newest versions of all objects under `prefix`, in LISTING_SCHEMA, in any order.

    Args:
        manifest: URI of the manifest.json of an inventory in CSV, Parquet or ORC.
        bucket: bucket of the inventory.
        prefix: prefix of the keys.

    Raises:
        SetupError: the file is not a manifest, is of another bucket, or lacks a column.
        SourceError: a file of the inventory cannot be read.
    """
    described = _read_manifest(manifest, bucket)
    filesystem, _ = fs.FileSystem.from_uri(manifest)
    for key in described.files:
        path = f"{described.bucket}/{key}"
        try:
            for batch in _batches(filesystem, path, described):
                listing = _listing(pa.table(batch), described.kind)
                chosen = listing.filter(pc.starts_with(listing["key"], prefix))
                yield from chosen.combine_chunks().to_batches()
        except (OSError, pa.ArrowException, EOFError) as error:
            raise SourceError(f"cannot read {path} of the inventory: {error}") from error


@dataclass(frozen=True)
class _Manifest:
    """The used parts of a manifest.json: format, columns, and location of the files."""

    kind: str
    columns: list[str]
    bucket: str
    files: list[str]


def _read_manifest(manifest: str, bucket: str) -> _Manifest:
    try:
        data = storage.read_bytes(manifest)
    except ValueError as error:  # https, for example
        raise SetupError(f"cannot read an inventory at {manifest}: {error}") from error
    if data is None:
        raise SetupError(f"there is no inventory at {manifest}; give the URI of its manifest.json")
    try:
        content = json.loads(data)
        source = content["sourceBucket"]
        described = _Manifest(
            kind=content["fileFormat"],
            columns=re.findall(r"\w+", content["fileSchema"]),
            bucket=content["destinationBucket"].removeprefix("arn:aws:s3:::"),
            files=[file["key"] for file in content["files"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"{manifest} is not the manifest.json of an inventory: {error!r}"
        ) from error
    if described.kind not in _LATEST:
        raise SetupError(f"{manifest} is an inventory in {described.kind}, not CSV, Parquet or ORC")
    if source != bucket:
        raise SetupError(f"{manifest} is an inventory of bucket {source!r}, not {bucket!r}")
    names = _names(described.kind)
    if missing := [names[name] for name in _WANTED if names[name] not in described.columns]:
        raise SetupError(
            f"the inventory {manifest} lacks {', '.join(missing)}; add them to its configuration"
        )
    return described


def _names(kind: str) -> dict[str, str]:
    return _OF_CSV if kind == "CSV" else _OF_OTHERS


def _batches(
    filesystem: fs.FileSystem, path: str, described: _Manifest
) -> Iterator[pa.RecordBatch]:
    if described.kind == "CSV":
        with filesystem.open_input_stream(path, compression="gzip") as stream:
            buffered = io.BufferedReader(stream)
            if buffered.peek(1):
                text = dict.fromkeys(described.columns, pa.string())
                yield from csv.open_csv(
                    buffered,
                    csv.ReadOptions(column_names=described.columns),
                    convert_options=csv.ConvertOptions(column_types=text),
                )
        return
    with filesystem.open_input_file(path) as file:
        if described.kind == "Parquet":
            yield from pq.ParquetFile(file).iter_batches()
        else:
            stripes = orc.ORCFile(file)
            yield from (stripes.read_stripe(number) for number in range(stripes.nstripes))


def _listing(rows: pa.Table, kind: str) -> pa.Table:
    """Convert rows of an inventory to LISTING_SCHEMA, keeping only the newest versions."""
    for name, expected in ((_LATEST[kind], "true"), (_MARKER[kind], "false")):
        if name in rows.column_names:
            value = pc.utf8_lower(rows[name].cast(pa.string()))
            rows = rows.filter(pc.fill_null(pc.equal(value, expected), False))
    columns = {
        name: rows[place] if place in rows.column_names else pa.nulls(rows.num_rows, pa.string())
        for name, place in _names(kind).items()
    }
    if kind == "CSV":  # the other formats encode neither keys nor times
        columns = {name: _empty_to_null(column) for name, column in columns.items()}
        keys = (key and unquote_plus(key) for key in columns["key"].to_pylist())
        columns["key"] = pa.array(keys, pa.string())
        seconds = pc.replace_substring_regex(columns["last_modified"], r"(\.\d+)?Z$", "")
        columns["last_modified"] = pc.strptime(seconds, "%Y-%m-%dT%H:%M:%S", "us")
    columns["etag"] = pc.utf8_trim(columns["etag"].cast(pa.string()), '"')
    listing = pa.table(columns).select(LISTING_SCHEMA.names).cast(LISTING_SCHEMA)
    return _readable(listing)


def _empty_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), None, column)


def _readable(listing: pa.Table) -> pa.Table:
    """Drop rows with missing values: S3 describes archived and deleted objects only in part."""
    complete = [pc.is_valid(listing[name]) for name in _WANTED]
    return listing.filter(reduce(pc.and_, complete))
