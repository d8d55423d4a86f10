"""S3 Inventory: listings that S3 itself writes every day, for buckets too large to be listed.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, fs, orc
from pyarrow import parquet as pq

from moodlake.scoring import storage
from moodlake.scoring.objects import LISTING_SCHEMA, SetupError, SourceError

# Columns of a listing, and what the formats call them.
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
    """The newest versions of all objects under `prefix`, in LISTING_SCHEMA, in no order.

    Args:
        manifest: URI of an inventory's manifest.json, in CSV, Parquet or ORC.
        bucket: that it has to be of.
        prefix: of the keys.

    Raises:
        SetupError: it is no manifest, of another bucket, or lacks a column.
        SourceError: a file of it cannot be read.
    """
    described = _read_manifest(manifest, bucket)
    place = described["destinationBucket"].removeprefix("arn:aws:s3:::")
    root = manifest.partition("://")[0]
    for file in described["files"]:
        uri = f"{root}://{place}/{file['key']}"
        try:
            for batch in _batches(uri, described):
                listing = _listing(pa.table(batch), described["fileFormat"])
                chosen = listing.filter(pc.starts_with(listing["key"], prefix))
                yield from chosen.combine_chunks().to_batches()
        except (OSError, pa.ArrowException, EOFError) as error:
            raise SourceError(f"the inventory's file {uri} cannot be read: {error}") from error


def _read_manifest(manifest: str, bucket: str) -> dict[str, Any]:
    data = storage.read_bytes(manifest)
    if data is None:
        raise SetupError(f"there is no inventory at {manifest}; name its manifest.json")
    try:
        described: dict[str, Any] = json.loads(data)
        source, schema = described["sourceBucket"], described["fileSchema"]
        known = described["fileFormat"] in _LATEST and described["files"] is not None
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{manifest} is no inventory's manifest.json: {error!r}") from error
    if not known:
        raise SetupError(f"{manifest} is an inventory in {described['fileFormat']}")
    if source != bucket:
        raise SetupError(f"{manifest} is an inventory of bucket {source!r}, not {bucket!r}")
    names = _OF_CSV if described["fileFormat"] == "CSV" else _OF_OTHERS
    if missing := [names[name] for name in _WANTED if names[name] not in schema]:
        raise SetupError(
            f"the inventory {manifest} has no {', '.join(missing)}: add them to its configuration"
        )
    return described


def _batches(uri: str, described: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    filesystem, path = fs.FileSystem.from_uri(uri)
    if described["fileFormat"] == "CSV":
        names = [name.strip() for name in described["fileSchema"].split(",")]
        with filesystem.open_input_stream(path, compression="gzip") as stream:
            yield from csv.open_csv(
                stream,
                csv.ReadOptions(column_names=names),
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
            )
        return
    with filesystem.open_input_file(path) as file:
        if described["fileFormat"] == "Parquet":
            yield from pq.ParquetFile(file).iter_batches()
        else:
            stripes = orc.ORCFile(file)
            yield from (stripes.read_stripe(number) for number in range(stripes.nstripes))


def _listing(rows: pa.Table, kind: str) -> pa.Table:
    """The newest versions among rows of an inventory, in the columns of a listing."""
    for name, meant in ((_LATEST[kind], "true"), (_MARKER[kind], "false")):
        if name in rows.column_names:
            value = pc.utf8_lower(rows[name].cast(pa.string()))
            rows = rows.filter(pc.fill_null(pc.equal(value, meant), False))
    names = _OF_CSV if kind == "CSV" else _OF_OTHERS
    columns = {
        name: rows[names[name]] if names[name] in rows.column_names else pa.nulls(rows.num_rows)
        for name in LISTING_SCHEMA.names
    }
    if kind == "CSV":  # the other formats hold keys and times as they are
        columns["key"] = pa.array(map(unquote_plus, columns["key"].to_pylist()), pa.string())
        seconds = pc.replace_substring_regex(columns["last_modified"], r"(\.\d+)?Z$", "")
        columns["last_modified"] = pc.strptime(seconds, "%Y-%m-%dT%H:%M:%S", "us")
    return pa.table(columns).cast(LISTING_SCHEMA)
