"""Unusual buckets and tables: each object gets a row, or the run fails with a clear error."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.client import BaseClient
from deltalake import DeltaTable

from infra.stack import Stack
from moodlake.scoring import pipeline
from moodlake.scoring.run import staging
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.objects import SourceError
from moodlake.scoring.tables.results import ResultsTable
from tests.e2e.steps import fill, finish, rows_of, score_all
from tests.images_made import jpeg

pytestmark = pytest.mark.e2e

FIVE_GB = 5 * 10**9


def test_a_run_without_matching_objects_is_recorded(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "nothing-here", {"notes.txt": b"no image"})
    finish(stack, "nothing", RunParams("nothing-here", pattern="*.jpg"))
    runs = DeltaTable(stack.settings.runs_table).to_pyarrow_table().to_pylist()
    (record,) = [run for run in runs if run["run_id"] == "nothing"]
    assert (record["listed"], record["objects"], record["problem"]) == (0, 0, None)


def test_objects_with_unusual_keys_are_scored(stack: Stack, s3: BaseClient) -> None:
    keys = [
        "quotes \"double\" and 'single'.jpg",
        "semi;colon, comma & percent %41 + plus.jpg",
        "日本/emoji 😀.jpg",
        "new\nline.jpg",
        "/".join(["x" * 250, "é" * 120, "z" * 250, "w" * 250, "y" * 26 + ".jpg"]),
    ]
    assert len(keys[-1].encode()) == 1024
    fill(s3, "odd-keys", {key: jpeg(number) for number, key in enumerate(keys)})
    finish(stack, "odd-keys", RunParams("odd-keys", faces="none"))
    rows = rows_of(stack, "odd-keys")
    assert sorted(rows.index) == sorted(keys)
    assert set(rows["status"]) == {"scored"}


def test_a_shard_of_broken_files_is_held_back_until_max_broken_allows_it(
    stack: Stack, s3: BaseClient
) -> None:
    fill(s3, "all-broken", {f"{number:02}.jpg": b"no image" for number in range(30)})
    score_all("broken-1", pipeline.plan_run("broken-1", RunParams("all-broken"), stack.settings))
    with pytest.raises(pipeline.RunIncomplete, match=r"at most 90% of a shard's .* max_broken = 1"):
        pipeline.publish("broken-1", stack.settings)
    assert "all-broken" not in buckets(stack)
    # A later object is neither held back nor delayed by them.
    s3.put_object(Bucket="all-broken", Key="later.jpg", Body=jpeg())
    with pytest.raises(pipeline.RunIncomplete, match="1 of 2 shards"):
        finish(stack, "broken-2", RunParams("all-broken", faces="none"))
    assert list(rows_of(stack, "all-broken").index) == ["later.jpg"]
    finish(stack, "broken-3", RunParams("all-broken", faces="none", max_broken=1))
    assert len(rows_of(stack, "all-broken")) == 31


def buckets(stack: Stack) -> set[str]:
    """Return the buckets that have rows."""
    table = ResultsTable(stack.settings.results_table)
    return set(table.read()["bucket"].to_pylist()) if table.open() else set()


def test_an_inventory_is_scored_instead_of_a_listing(stack: Stack, s3: BaseClient) -> None:
    photos = {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
    fill(s3, "inventoried", {**photos, "later.jpg": jpeg(3)})
    objects = [
        (key, s3.head_object(Bucket="inventoried", Key=key)["ETag"], len(data))
        for key, data in photos.items()
    ]
    objects += [("huge.jpg", "0f", FIVE_GB), ("notes.txt", "1e", 9)]
    manifest = write_inventory(s3, "inventoried", objects)
    params = RunParams("inventoried", inventory=manifest, pattern="*.jpg", faces="none")
    finish(stack, "inventoried", params)
    rows = rows_of(stack, "inventoried")
    assert sorted(rows.index) == ["a.jpg", "b.jpg", "huge.jpg"]
    assert rows["reason"].dropna().to_dict() == {"huge.jpg": "too_large"}


def write_inventory(s3: BaseClient, bucket: str, objects: list[tuple[str, str, int]]) -> str:
    """Write an inventory in the format of S3; return the URI of its manifest."""
    keys, etags, sizes = zip(*objects, strict=True)
    changed = pa.array([datetime(2026, 1, 2, tzinfo=UTC)] * len(keys), pa.timestamp("ms", "UTC"))
    columns = {"key": keys, "e_tag": etags, "size": sizes, "last_modified_date": changed}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": "Parquet",
        "fileSchema": f"message s3.inventory {{ {' '.join(columns)} }}",
        "files": [{"key": "inventory/one.parquet"}],
    }
    for name, data in (("one.parquet", file.getvalue()), ("manifest.json", json.dumps(manifest))):
        s3.put_object(Bucket=bucket, Key=f"inventory/{name}", Body=data)
    return f"s3://{bucket}/inventory/manifest.json"


def test_an_unreachable_store_is_reported(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid:1")
    with pytest.raises(SourceError, match="no-such-host"):
        pipeline.plan_run("unresolved", RunParams("zoo"), stack.settings)


def test_a_shard_with_other_columns_is_held_back(stack: Stack, s3: BaseClient) -> None:
    fill(s3, "changed-code", {f"{number}.jpg": jpeg(number) for number in range(4)})
    params = RunParams("changed-code", shard_size=2, faces="none")
    shards = pipeline.plan_run("changed-1", params, stack.settings)
    score_all("changed-1", shards)
    staged = staging.Staging(stack.settings.results_uri, "changed-1")
    older = staged.read_rows(shards[0])
    assert older
    staged.write_rows(shards[0], older.drop_columns(["entropy"]), {})
    with pytest.raises(pipeline.RunIncomplete, match="entropy"):
        pipeline.publish("changed-1", stack.settings)
    assert len(rows_of(stack, "changed-code")) == 2
    finish(stack, "changed-2", params)
    assert len(rows_of(stack, "changed-code")) == 4
