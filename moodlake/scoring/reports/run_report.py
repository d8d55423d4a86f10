"""A self-contained HTML report of a run, made from its record and some of its rows."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.filesize import decimal

from moodlake.profile import BINS, Counts, Profile
from moodlake.reasons import Reason
from moodlake.scoring.reports.drift import LAST_RUNS, TRAINING
from moodlake.scoring.reports.html import REPORTS, ReadImage, colour_of, render_page, thumbnail
from moodlake.scoring.run.policy import Report
from moodlake.scoring.sources import storage
from moodlake.scoring.sources.s3 import image_of, s3_client
from moodlake.scoring.tables.summary import Examples

log = logging.getLogger(__name__)

_MEASURE_NAMES = {
    "emotions": "emotions",
    "entropy": "entropy",
    "outcomes": "rejections",
    "brightness": "brightness",
    "size": "size",
}


def report_uri(results_uri: str, run_id: str) -> str:
    """Return the URI of the report of a run."""
    return storage.join(results_uri, REPORTS, run_id, "run.html")


def publish_report(
    record: Mapping[str, Any], examples: Examples, results_uri: str, policy: Report
) -> None:
    """Write the report of a run. Failures are only logged, since the rows are published already."""
    uri = report_uri(results_uri, record["run_id"])
    try:
        read_image = partial(image_of, s3_client()) if policy.thumbnails else None
        storage.write_bytes(uri, render_run(record, examples, read_image).encode())
        log.info("the run's report is %s", uri)
    except Exception:
        log.exception("cannot write the report %s; `moodlake report` writes it again", uri)


def render_run(
    record: Mapping[str, Any], examples: Examples, read_image: ReadImage | None = None
) -> str:
    """Render the report as HTML.

    Args:
        record: row of the runs table; it may lack columns that older versions did not write.
        examples: examples of the run's rows.
        read_image: reads images for thumbnails; None for a report without images.
    """
    drift = _json(record, "drift")
    references = drift.get("references", {})
    profiles = {"run": _json(record, "profile"), **references}
    known = {name: Profile.from_dict(values) for name, values in profiles.items() if values}
    return render_page(
        "run_report.html",
        title=f"s3://{record['bucket']}/{record['prefix'] or ''}",
        run=record,
        params={k: v for k, v in _json(record, "params").items() if v not in (None, "")},
        facts=_headlines(record),
        seconds=_bars(_json(record, "seconds")),
        emotions=_emotions(known, examples.emotions),
        charts=_charts(known),
        shown=[name for name in ("run", TRAINING, LAST_RUNS) if name in known],
        certain=[_row(row, examples.emotions, read_image) for row in examples.certain],
        ambiguous=[_row(row, examples.emotions, read_image) for row in examples.ambiguous],
        legend=[(name, colour_of(name)) for name in examples.emotions],
        rejected=_rejected(record, examples),
        comparisons=_side_by_side(drift.get("comparisons", [])),
        measure_names=_MEASURE_NAMES,
    )


def _json(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(json.loads(record.get(name) or "{}"))


def _headlines(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    objects, pending = record["objects"], record["waiting"]
    facts = [
        ("Images", f"{objects:,}"),
        ("Scored", f"{record['scored']:,}"),
        ("Not scored", f"{record['rejected']:,}"),
        ("Read", decimal(record["bytes"])),
        ("Remaining", f"{max(0, pending - objects):,}" if pending else "0"),
        ("Duration", _duration((record["ended_at"] - record["started_at"]).total_seconds())),
    ]
    if rate := record.get("images_per_second"):
        facts.append(("Images per second", f"{rate:.1f}"))
    if (cost := record.get("cost_per_million")) is not None:
        facts.append(("Cost per million", f"$ {cost:.2f}"))
    return facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{max(0.0, seconds):.1f} s"


def _bars(values: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return durations, longest first, with their share of the longest in percent."""
    longest = max(values.values(), default=0) or 1
    ranked = sorted(values.items(), key=lambda item: -item[1])
    return [
        {
            "name": name.replace("_", " "),
            "duration": _duration(value),
            "percent": 100 * value / longest,
        }
        for name, value in ranked
    ]


def _shares(counts: Counts) -> dict[str, float]:
    total = sum(counts.values()) or 1
    return {name: count / total for name, count in counts.items()}


def _emotions(known: Mapping[str, Profile], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mean probability of each emotion in the run and in each reference."""
    if "run" not in known:
        return []
    shares = {name: _shares(profile.emotions) for name, profile in known.items()}
    longest = max((value for each in shares.values() for value in each.values()), default=0) or 1
    rows = [
        {
            "name": name,
            "colour": colour_of(name),
            "share": shares["run"].get(name, 0.0),
            "leads": known["run"].dominant.get(name, 0),
            "at": {of: 100 * each.get(name, 0.0) / longest for of, each in shares.items()},
        }
        for name in names or known["run"].emotions
    ]
    return sorted(rows, key=lambda row: -row["share"])


def _charts(known: Mapping[str, Profile]) -> list[dict[str, Any]]:
    """Return histograms of the measures, with the share of each profile in each bin."""
    tenths = [f"{number / BINS:.1f}" for number in range(BINS)]
    sides = sorted({int(name) for profile in known.values() for name in profile.size})
    octaves = [str(2**power) for power in range(*_powers(sides))] if sides else []
    charts = (
        ("entropy", "Entropy", "certain", "uniform", tenths),
        ("brightness", "Brightness", "black", "white", tenths),
        ("size", "Size of the scored part", "pixels", "", octaves),
    )
    return [
        {"title": title, "low": low, "high": high, "name": name, "bins": bins}
        for name, title, low, high, labels in charts
        if (bins := _bins(known, name, labels))
    ]


def _powers(sides: Sequence[int]) -> tuple[int, int]:
    return int(math.log2(sides[0])), int(math.log2(sides[-1])) + 1


def _bins(known: Mapping[str, Profile], name: str, labels: Sequence[str]) -> list[dict[str, Any]]:
    counts = {of: getattr(profile, name) for of, profile in known.items()}
    shares = {of: _shares(each) for of, each in counts.items() if each}
    if "run" not in shares:
        return []
    highest = max(value for each in shares.values() for value in each.values())
    return [
        {
            "label": label,
            "share": shares["run"].get(label, 0.0),
            "at": {of: 100 * each.get(label, 0.0) / highest for of, each in shares.items()},
        }
        for label in labels
    ]


def _row(
    row: dict[str, Any], emotions: Sequence[str], read_image: ReadImage | None
) -> dict[str, Any]:
    ranked = sorted(emotions, key=lambda name: -(row[name] or 0))
    return {
        **row,
        "parts": [(name, colour_of(name), row[name] or 0.0) for name in ranked],
        "thumbnail": thumbnail(row, read_image),
    }


def _rejected(record: Mapping[str, Any], examples: Examples) -> list[dict[str, Any]]:
    reasons = sorted(_json(record, "reasons").items(), key=lambda item: -item[1])
    return [
        {
            "reason": reason,
            "count": count,
            "share": count / max(1, record["objects"]),
            "explanation": Reason(reason).explanation,
            "keys": examples.rejected.get(reason, ()),
        }
        for reason, count in reasons
    ]


def _side_by_side(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Group comparisons: measure -> reference -> comparison."""
    table: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for item in comparisons:
        table[item["measure"]][item["against"]] = item
    return table
