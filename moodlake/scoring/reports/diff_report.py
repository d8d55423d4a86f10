"""A self-contained HTML report of the comparison of two models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from moodlake.reasons import Reason
from moodlake.scoring.reports.diff import NO_ROW, ChangedImage, Changes, Diff, DiffError, compare
from moodlake.scoring.reports.html import (
    REPORTS,
    ReadImage,
    colour_of,
    percent,
    render_page,
    thumbnail,
)
from moodlake.scoring.sources import storage
from moodlake.scoring.tables.delta import open_table
from moodlake.settings import Settings

_BARS = 25
_WHOLE = 0.999


def render_diff(diff: Diff, *, read_image: ReadImage | None = None) -> str:
    """Render the report as HTML.

    Args:
        diff: comparison to show.
        read_image: reads images for thumbnails; None for a report without images.
    """
    changes = diff.changes
    return render_page(
        "diff.html",
        title=f"{diff.old.name} {diff.old.version} → {diff.new.version}",
        facts=_facts(diff),
        diff=diff,
        rescaled=min(diff.coverage) < _WHOLE,
        matrix=_matrix(diff.emotions, changes),
        shifts=_shifts(diff.emotions, changes),
        histogram=_histogram(changes),
        most_changed=[_card(image, diff.emotions, read_image) for image in changes.most_changed],
        one_only=[
            (label, scored_by, reason, _explanation(reason), count)
            for label, scored_by, found in (
                (diff.new, diff.old, diff.only_old),
                (diff.old, diff.new, diff.only_new),
            )
            for reason, count in found.items()
        ],
    )


def write_report(
    settings: Settings, run_id: str, *, old: str | None, new: str, bucket: str, prefix: str = ""
) -> dict[str, Any]:
    """Compare two models and write a report without images beside the tables.

    Args:
        settings: settings with the locations; the report is reports/<run_id>/diff.html.
        run_id: id of the run that requests the report.
        old, new, bucket, prefix: see `compare`.

    Returns:
        `Diff.headline`, and the URI of the report as "report".

    Raises:
        DiffError: there is nothing to compare.
        SourceError: the report cannot be written.
    """
    table = open_table(settings.results_table)
    if table is None:
        raise DiffError(f"there is no table at {settings.results_table}; score images first")
    diff = compare(table, old, new, bucket=bucket, prefix=prefix)
    uri = storage.join(settings.results_uri, REPORTS, run_id, "diff.html")
    storage.write_bytes(uri, render_diff(diff).encode())
    return diff.headline() | {"report": uri}


def _facts(diff: Diff) -> list[tuple[str, str]]:
    changes = diff.changes
    return [
        ("Images scored by both", f"{changes.pairs:,}"),
        ("Dominant emotion changed", _percent_1(changes.changed)),
        ("Mean distance", f"{changes.mean_distance:.3f}"),
        ("Median distance", f"{changes.quantiles[0.5]:.3f}"),
        ("99th percentile", f"{changes.quantiles[0.99]:.3f}"),
        ("Scored by old only", f"{sum(diff.only_old.values()):,}"),
        ("Scored by new only", f"{sum(diff.only_new.values()):,}"),
    ]


def _percent_1(share: float) -> str:
    return f"{100 * share:.1f} %"


def _matrix(emotions: tuple[str, ...], changes: Changes) -> list[dict[str, Any]]:
    """Return rows by old emotion; the `shade` of a cell, 0 to 100, grows with its share."""
    totals = changes.transitions.sum(axis=1)
    return [
        {
            "emotion": old,
            "colour": colour_of(old),
            "total": int(total),
            "cells": [
                {
                    "to": new,
                    "count": int(count),
                    "share": percent(count / total) if total else "",
                    # The square root makes small shares visible.
                    "shade": round(100 * float(np.sqrt(count / total)), 1) if total else 0,
                    "stays": new == old,
                }
                for new, count in zip(emotions, row, strict=True)
            ],
        }
        for old, row, total in zip(emotions, changes.transitions, totals, strict=True)
    ]


def _shifts(emotions: tuple[str, ...], changes: Changes) -> list[dict[str, Any]]:
    """Return shifts, largest first, with `width` in percent of the largest."""
    largest = float(np.abs(changes.shift).max()) or 1.0
    shifts = zip(emotions, changes.shift.tolist(), strict=True)
    return [
        {
            "emotion": emotion,
            "colour": colour_of(emotion),
            "shift": 100 * shift,
            "width": round(100 * abs(shift) / largest, 1),
        }
        for emotion, shift in sorted(shifts, key=lambda pair: -abs(pair[1]))
    ]


def _histogram(changes: Changes) -> list[dict[str, Any]]:
    """Return bars in equal steps from 0 to 1, with `height` in percent of the highest."""
    counts = changes.histogram.reshape(_BARS, -1).sum(axis=1)
    return [
        {
            "from": f"{index / _BARS:.2f}",
            "to": f"{(index + 1) / _BARS:.2f}",
            "count": int(count),
            "height": round(100 * float(count / counts.max()), 2),
        }
        for index, count in enumerate(counts)
    ]


def _card(
    image: ChangedImage,
    emotions: tuple[str, ...],
    read_image: ReadImage | None,
) -> dict[str, Any]:
    sides = [
        {
            "lead": emotions[int(np.argmax(distribution))],
            "probability": max(distribution),
        }
        for distribution in (image.old, image.new)
    ]
    bars = [
        {"emotion": emotion, "colour": colour_of(emotion), "old": 100 * old, "new": 100 * new}
        for emotion, old, new in zip(emotions, image.old, image.new, strict=True)
    ]
    small = thumbnail(asdict(image), read_image)
    return {
        "key": image.key,
        "distance": image.distance,
        "sides": sides,
        "bars": bars,
        "thumbnail": small,
    }


def _explanation(reason: str) -> str:
    if reason == NO_ROW:
        return "This model has no row of the image."
    return Reason(reason).explanation
