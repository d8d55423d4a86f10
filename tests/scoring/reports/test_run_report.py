"""The report of a run."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from moodlake.cli import app
from moodlake.prediction import Prediction
from moodlake.profile import Profile
from moodlake.reasons import Reason
from moodlake.scoring.reports.drift import judge
from moodlake.scoring.reports.run_report import publish_report, render_run, report_uri
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.run.policy import Drift, Prices, Report
from moodlake.scoring.run.record import run_record
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.runs import record_run
from moodlake.scoring.tables.summary import Summary, examples_of
from tests.images_made import jpeg
from tests.scoring.rows import MODEL, SPACE, planned, row, table

START = datetime.now(UTC) - timedelta(minutes=1)
KEY = "2026/<b>a & b</b>.jpg"


def reading(seed: int, sure: float = 1.0) -> Prediction:
    """A scored image; the higher `sure`, the more one emotion leads."""
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(8) / sure)
    light = float(probabilities[0])
    return Prediction.scored(
        probabilities, SPACE, width=64, height=48, format="JPEG", brightness=light
    )


def rows(count: int = 250) -> pa.Table:
    scored = [row(f"{number:04d}.jpg", prediction=reading(number)) for number in range(count)]
    rejected = [row(f"bad-{number}", reason=Reason.EMPTY) for number in range(5)]
    return table(row(KEY, prediction=reading(1, 1000)), *scored, *rejected)


def record(made: pa.Table, folder: Path, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    reference = Profile.of(SPACE, np.random.default_rng(0).dirichlet(np.ones(8), 300))
    run = planned(
        params=RunParams("bucket", "2026/"),
        shard_ids=("shard",),
        listed=300,
        pending_objects=290,
        started_at=START.isoformat(),
        reference=reference.to_dict(),
    )
    seconds = {"plan": 1.5, "task_cores": 80.0}
    summary = Summary(SPACE, 3)
    for batch in made.to_batches(100):
        summary.add(pa.Table.from_batches([batch]))
    judged = judge(run, summary.profile, str(folder / "runs"), Drift())
    return run_record(run, summary, problems, seconds, Prices()) | judged


class Page(HTMLParser):
    """What a page says, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loaded, self.open = "", list[str](), list[str]()
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}" if "style" not in self.open else ""


def test_the_page_tells_all_of_a_run_and_loads_nothing(tmp_path: Path) -> None:
    made = rows()
    page = Page(render_run(record(made, tmp_path), examples_of(made.to_batches(), 3)))
    assert page.loaded == []
    assert page.open == []
    for words in (
        *("s3://bucket/2026/", "published", "drift", "started by hand", KEY),
        *("Images 256", "Scored 251", "Not scored 5", "Remaining 34", "Cost per million $"),
        *("empty", "The file has no bytes.", "bad-0, bad-1, bad-2"),
        *("Most certain", "Most ambiguous", "Brightness", "task cores", "1 min 20 s"),
        *("the reference lacks this measure", MODEL.digest),
    ):
        assert words in page.text, words
    for emotion in SPACE.emotions:
        assert f"{emotion} " in page.text


def test_what_an_older_version_did_not_record_is_left_out(tmp_path: Path) -> None:
    made = rows()
    later = ("profile", "drift", "drifted", "seconds", "cost_per_million")
    older = {k: v for k, v in record(made, tmp_path).items() if k not in later}
    for recorded in (older, older | dict.fromkeys(later)):
        page = Page(render_run(recorded, examples_of(made.to_batches(), 3)))
        assert "drift not judged" in page.text
        assert "Most certain" in page.text
        assert "Time by step" not in page.text
        assert "Cost per million" not in page.text


def test_a_run_of_nothing_has_a_page(tmp_path: Path) -> None:
    nothing = table()
    about = record(nothing, tmp_path, ("shard 9 was not scored",))
    page = Page(render_run(about, examples_of(nothing.to_batches(), 3)))
    assert "incomplete" in page.text
    assert "shard 9 was not scored" in page.text
    assert "Most certain" not in page.text


@given(st.lists(st.integers(1, 7), max_size=12), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_the_examples_are_the_extremes_however_rows_come(sizes: list[int], count: int) -> None:
    keys = iter(range(1000))
    batches = [
        table(*(row(f"{n:03d}", prediction=reading(n)) for n in itertools.islice(keys, size)))
        for size in sizes
    ]
    found = examples_of((part for each in batches for part in each.to_batches()), count)
    everything = [each for part in batches for each in part.to_pylist()]
    ranked = [each["key"] for each in sorted(everything, key=lambda each: each["entropy"])]
    assert [each["key"] for each in found.certain] == ranked[:count]
    assert [each["key"] for each in found.ambiguous] == ranked[::-1][:count]


@pytest.mark.slow
def test_examples_are_gathered_from_any_number_of_rows_in_the_memory_of_a_batch() -> None:
    (batch,) = rows(500).to_batches()
    copies = 400
    before = pa.total_allocated_bytes()
    most = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for _ in range(copies):
            most = max(most, pa.total_allocated_bytes() - before)
            yield batch

    found = examples_of(stream(), 6)
    assert len(found.certain) == len(found.ambiguous) == 6
    assert most < 4 * batch.nbytes


def test_pixels_are_in_the_page_only_if_they_are_asked_for(tmp_path: Path) -> None:
    made = rows()
    about, examples = record(made, tmp_path), examples_of(made.to_batches(), 3)
    pictured = Page(render_run(about, examples, lambda row: jpeg(len(row["key"]))))
    assert len(pictured.loaded) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in pictured.loaded)
    gone = Page(render_run(about, examples, lambda row: b""))
    assert gone.loaded == []


def test_a_page_that_cannot_be_written_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = rows(10)
    about = record(made, tmp_path)
    (tmp_path / "reports").write_text("a file where a folder should be")
    with caplog.at_level(logging.ERROR):
        publish_report(about, examples_of(made.to_batches(), 6), str(tmp_path), Report())
    assert "run.html; `moodlake report` writes it again" in caplog.text


def test_the_command_writes_the_page_of_a_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rows()
    monkeypatch.setenv("MOODLAKE_RESULTS_URI", str(tmp_path))
    about = record(made, tmp_path)
    shown = examples_of(made.to_batches(), Report().examples)
    publish_report(about, shown, str(tmp_path), Report())
    published = Path(report_uri(str(tmp_path), "run"))
    first = published.read_text("utf-8")
    ResultsTable(str(tmp_path / "results")).commit(made, ["shard"])
    record_run(str(tmp_path / "runs"), about)
    done = CliRunner().invoke(app, ["report", "run"])
    assert (done.exit_code, done.output.split()) == (0, ["->", str(published)])
    assert published.read_text("utf-8") == first
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["report", "run", "--out", "page.html"]).exit_code == 0
    assert Path("page.html").read_text("utf-8") == first
    done = CliRunner().invoke(app, ["report", "another"])
    assert done.exit_code == 1
    assert "no run 'another'" in done.output
