"""Self-contained HTML reports: shared templates, thumbnails, and the report on result rows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader
from PIL import Image, ImageOps

from moodlake.inference.decoding import decode
from moodlake.reasons import Reason, Rejected, Status
from moodlake.scoring.tables.schema import emotion_columns

REPORTS = "reports"
"""Folder of the reports of runs, beside the tables."""
_THUMBNAIL_HEIGHT = 240
# Paul Tol's "muted" palette, which colour-blind readers can distinguish, too.
_COLOURS = {
    "happiness": "#ddaa33", "happy": "#ddaa33", "joy": "#ddaa33",
    "neutral": "#8a929c", "surprise": "#44aa99", "sadness": "#4477aa", "sad": "#4477aa",
    "anger": "#cc6677", "angry": "#cc6677", "disgust": "#999933", "fear": "#882255",
    "contempt": "#aa4499",
}  # fmt: skip
_OTHER_COLOUR = "#5b6878"
ReadImage = Callable[[dict[str, Any]], bytes]
"""Returns the content of an image, given bucket, key, etag and size; may raise Rejected."""


def render_report(
    rows: pa.Table,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    read_image: ReadImage | None = None,
) -> str:
    """Render a report on result rows as HTML.

    Args:
        rows: rows of the results table.
        title: heading.
        facts: (name, value) pairs at the top.
        read_image: reads images for thumbnails; None for a report without images.
    """
    emotions = emotion_columns(rows.schema)
    records = rows.to_pylist()
    scored = [_card(row, emotions, read_image) for row in records if row["status"] == Status.SCORED]
    rejected = [
        {**row, "explanation": Reason(row["reason"]).explanation}
        for row in records
        if row["status"] == Status.REJECTED
    ]
    return render_page("report.html", title=title, facts=facts, scored=scored, rejected=rejected)


def render_page(template: str, **values: Any) -> str:
    """Render a template of this folder."""
    environment = Environment(
        loader=PackageLoader("moodlake.scoring.reports", "."), autoescape=True
    )
    return environment.get_template(template).render(percent=percent, **values)


def colour_of(emotion: str) -> str:
    """Return the colour of an emotion in all reports, as `#rrggbb`."""
    return _COLOURS.get(emotion, _OTHER_COLOUR)


def _card(
    row: dict[str, Any],
    emotions: Sequence[str],
    read_image: ReadImage | None,
) -> dict[str, Any]:
    present = [emotion for emotion in emotions if row[emotion] is not None]
    bars = [
        {
            "emotion": emotion,
            "probability": row[emotion],
            "percent": round(100 * row[emotion], 1),
            "colour": colour_of(emotion),
        }
        for emotion in sorted(present, key=lambda emotion: -row[emotion])
    ]
    small = thumbnail(row, read_image)
    return {**row, "bars": bars, "thumbnail": small, "most_entropy": math.log(len(present))}


def thumbnail(image_of: dict[str, Any], read_image: ReadImage | None) -> str | None:
    """Return a small JPEG as a data URI; None without `read_image`, or if the image is unreadable.

    Args:
        image_of: bucket, key, etag and size of the image.
        read_image: reads images; None for no thumbnail.
    """
    if read_image is None:
        return None
    try:
        data = read_image(image_of)
        image = Image.fromarray(decode(data, short_side=_THUMBNAIL_HEIGHT).pixels)
    except Rejected:
        return None
    image = ImageOps.contain(image, (2 * _THUMBNAIL_HEIGHT, _THUMBNAIL_HEIGHT))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def percent(probability: float) -> str:
    """Format a probability in whole percent; values below 0.5 % are `< 1 %`."""
    return f"{100 * probability:.0f} %" if probability >= 0.005 else "< 1 %"
