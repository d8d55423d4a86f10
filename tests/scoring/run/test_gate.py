from __future__ import annotations

from typing import Any

import pytest

from moodlake.reasons import Reason
from moodlake.scoring.run.gate import audit, audit_shards
from moodlake.scoring.run.policy import Gate
from tests.scoring.rows import MODEL, SPACE, row, table


def test_good_rows_pass() -> None:
    rows = table(row("a"), row("b", reason=Reason.NO_FACE))
    assert audit(rows, SPACE, MODEL.digest) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expectation"),
    [
        ({"fear": 0.9}, "distributions sum to 1"),
        ({"fear": -0.5}, "fear is between 0 and 1"),
        ({"brightness": 1.5}, "brightness is between 0 and 1"),
        ({"fear": None}, "every emotion has a probability"),
        ({"reason": "empty"}, "rejected rows have a reason and no others do"),
        ({"reason": "boredom"}, "reason is known"),
        ({"status": "maybe"}, "status is known"),
        ({"status": "rejected", "reason": "empty"}, "rejected rows have no distribution"),
        ({"key": "good"}, "each identity has one row"),
        ({"etag": None}, "etag is present"),
        ({"model_digest": "other"}, "the model is the planned one"),
    ],
)
def test_a_bad_row_is_named(changes: dict[str, Any], expectation: str) -> None:
    failures = audit(table(row("good"), row("bad") | changes), SPACE, MODEL.digest)
    named = [failure for failure in failures if expectation in failure.expectation]
    assert named, failures
    assert changes.get("key", "bad") in named[0].examples


@pytest.mark.parametrize(("broken", "held_back"), [(18, False), (19, True)])
def test_a_shard_of_broken_files_is_held_back(broken: int, held_back: bool) -> None:
    faceless = row("landscape", reason=Reason.NO_FACE)
    bad = [row(f"{number}", reason=Reason.NOT_AN_IMAGE) for number in range(broken)]
    good = [row(f"good {number}") for number in range(19 - broken)]
    failures = audit(table(*bad, *good, faceless), SPACE, MODEL.digest, Gate(0.9, 20))
    assert ["at most 90%" in failure.expectation for failure in failures] == [True] * held_back


def test_few_broken_files_and_many_without_a_face_pass() -> None:
    few = [row(f"{number}", reason=Reason.EMPTY) for number in range(19)]
    faceless = [row(f"{number}", reason=Reason.NO_FACE) for number in range(40)]
    for rows in (few, faceless):
        assert audit(table(*rows), SPACE, MODEL.digest, Gate(0.9, 20)) == []


def test_a_bad_shard_does_not_affect_the_others() -> None:
    staged = {
        name: table(row(name) | {"shard_id": name} | changes)
        for name, changes in {"good": {}, "bad": {"fear": 0.9}, "fine": {}}.items()
    }
    staged["older"] = table(row("older") | {"shard_id": "older"}).drop_columns(["anger"])
    found = audit_shards(staged, SPACE, MODEL.digest)
    assert sorted(found) == ["bad", "older"]
    assert "sum to 1" in str(found["bad"][0])
    assert "anger" in str(found["older"][0])


def test_a_missing_column_is_named() -> None:
    failures = audit(table(row("a")).drop_columns(["anger"]), SPACE, MODEL.digest)
    assert "anger" in str(failures[0])
