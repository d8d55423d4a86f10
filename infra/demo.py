"""The demo: score real photos with the local stack, and write a table and a report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from botocore.client import BaseClient
from PIL import Image

from infra.local.airflow import DAG_ID
from infra.stack import Stack
from moodlake.prediction import FaceMode
from moodlake.scoring.reports.html import render_report
from moodlake.scoring.sources.s3 import image_of, s3_client
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import count_outcomes
from moodlake.scoring.tables.writers import export
from training.datasets.drawn import draw_face

BUCKET = "moodlake-demo"
_DRAWN = ("happiness", "sadness", "surprise", "anger")
_DRAWN_SIZE = 240
_CROPS = 20


@dataclass(frozen=True)
class DemoResult:
    """The results of a demo: all rows, and the files written."""

    rows: pa.Table
    table: Path
    report: Path


def run_demo(stack: Stack, folder: Path, announce: Callable[[str], None]) -> DemoResult:
    """Upload photos, score them with Airflow, and write a table and a report to `folder`.

    Args:
        stack: a running stack; this process's environment is pointed at it.
        folder: for results.parquet and report.html.
        announce: prints a line about the progress.

    Raises:
        AirflowError: a run failed or did not end.
    """
    stack.point_here()
    client = s3_client()
    client.create_bucket(Bucket=BUCKET)
    images = {**photos(), **broken_files(), **face_crops(), **drawn_faces()}
    for key, data in images.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=data)
    announce(f"uploaded {len(images)} files to s3://{BUCKET}")
    # The sample consists of cropped faces, which need no face detection.
    for prefix, faces in (("photos/", FaceMode.LARGEST), ("sample/", FaceMode.NONE)):
        conf = {"bucket": BUCKET, "prefix": prefix, "faces": str(faces)}
        run_id = stack.airflow.client.trigger(DAG_ID, conf)
        announce(f"scoring {prefix} with Airflow (run {run_id})")
        stack.airflow.follow(run_id, announce)
    rows = ResultsTable(stack.settings.results_table).read()
    table, report = folder / "results.parquet", folder / "report.html"
    export(rows.to_reader(), str(table))
    report.write_text(_report(rows, client), "utf-8")
    return DemoResult(rows, table, report)


def photos() -> dict[str, bytes]:
    """Return real photos that ship with Python packages, by key."""
    import matplotlib
    import skimage
    import sklearn

    scikit_image = Path(skimage.__file__).parent / "data"
    scikit_learn = Path(sklearn.__file__).parent / "datasets" / "images"
    files = [
        scikit_image / "astronaut.png",
        Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        scikit_image / "chelsea.png",
        scikit_image / "coffee.png",
        scikit_learn / "china.jpg",
        scikit_learn / "flower.jpg",
    ]
    return {f"photos/{file.name}": file.read_bytes() for file in files}


def face_crops() -> dict[str, bytes]:
    """Return faces of Labeled Faces in the Wild from scikit-image, 25 x 25 grey pixels, by key."""
    import skimage

    crops = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")[:_CROPS]
    return {
        f"sample/face-{index:02d}.png": _png(Image.fromarray((255 * crop).astype(np.uint8)))
        for index, crop in enumerate(crops)
    }


def drawn_faces() -> dict[str, bytes]:
    """Return cartoon faces, drawn like the data set of `dvc repro` but larger, by key.

    The released model was not trained on any of them.
    """
    rng = np.random.default_rng(7)
    return {
        f"sample/toy-{emotion}.png": _png(draw_face(emotion, rng, _DRAWN_SIZE))
        for emotion in _DRAWN
    }


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def broken_files() -> dict[str, bytes]:
    """Return files that cannot be scored, each for another reason, by key."""
    whole = photos()["photos/grace_hopper.jpg"]
    return {
        "photos/notes.jpg": b"This is a text file, whatever its name says.\n",
        "photos/half-uploaded.jpg": whole[: len(whole) // 2],
    }


def _report(rows: pa.Table, client: BaseClient) -> str:
    scored, rejected, reasons = count_outcomes(rows)
    first = rows.slice(0, 1).to_pylist()[0]
    facts = [
        ("Images", str(rows.num_rows)),
        ("Scored", str(scored)),
        ("Rejected", str(rejected)),
        ("Reasons", json.dumps(reasons).strip("{}").replace('"', "") or "none"),
        ("Model", f"{first['model_name']} {first['model_version']}"),
        ("Digest", first["model_digest"][:12]),
        ("Label space", first["label_space"]),
    ]
    return render_report(
        rows, title=f"s3://{BUCKET}", facts=facts, read_image=partial(image_of, client)
    )
