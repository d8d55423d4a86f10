"""From requests to the model server's answers: what handlers/ hands on to TorchServe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from moodlake.emotions import LabelSpace, in_space
from moodlake.model import Model, OutOfTime
from moodlake.prediction import FacePrediction, Prediction, as_dict
from moodlake.reasons import Rejected
from moodlake.serving.explanations import MOST_EXPLAINED, as_array, explain
from moodlake.serving.options import BadRequest, Options
from moodlake.serving.requests import ServerRequest, Upload
from moodlake.timings import Timings

_DECIMALS = 6
MOST_SECONDS = 20.0
"""That the images of a request may take; TorchServe ends a worker after 60 without an answer."""


def describe(model: Model) -> dict[str, Any]:
    """What is served: the model, its label space and face mode, and what it was made from."""
    return {
        "model": dataclasses.asdict(model.identity),
        "label_space": {"name": model.space.name, "emotions": model.space.emotions},
        "faces": model.faces,
        "provenance": model.provenance,
    }


def score(model: Model, request: ServerRequest, timings: Timings) -> list[Prediction]:
    """A prediction for every image of a request, over the model's own label space.

    Raises:
        BadRequest: its images take longer than a request may, or are too many to explain, or the
            model does not know the emotion to explain.
    """
    options = request.options
    if options.explain and len(request.uploads) > MOST_EXPLAINED:
        raise BadRequest(f"explain=true takes at most {MOST_EXPLAINED} images at a time", 413)
    try:
        if options.emotion is not None:
            model.space.index(options.emotion)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    encoded = [upload.data for upload in request.uploads if isinstance(upload.data, bytes)]
    try:
        scored = iter(
            model.score(encoded, faces=options.faces, timings=timings, seconds=MOST_SECONDS)
        )
    except OutOfTime as error:
        raise BadRequest(f"{error}: send fewer at a time", 413) from error
    return [
        Prediction.rejected(upload.data) if isinstance(upload.data, Rejected) else next(scored)
        for upload in request.uploads
    ]


def answer(
    model: Model, request: ServerRequest, predictions: Sequence[Prediction], timings: Timings
) -> dict[str, Any]:
    """The JSON answer to one request: see openapi.json."""
    options = request.options
    content: dict[str, Any] = {"model": dataclasses.asdict(model.identity)}
    content["label_space"] = (options.label_space or model.space).name
    content["predictions"] = [
        {"name": upload.name, **_told(prediction, model.space, options)}
        | _explained(model, upload, prediction, options)
        for upload, prediction in zip(request.uploads, predictions, strict=True)
    ]
    if options.timings:
        content["timings"] = timings.to_dict()
    return content


def _explained(
    model: Model, upload: Upload, prediction: Prediction, options: Options
) -> dict[str, Any]:
    if not options.explain:
        return {}
    if prediction.distribution is None or isinstance(upload.data, Rejected):
        return {"explanation": None}
    return {"explanation": as_array(explain(model, upload.data, options))}


def _told(prediction: Prediction, space: LabelSpace, options: Options) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if options.label_space:
        prediction, share = _over(prediction, space, options.label_space)
        told["label_space_share"] = share
    if options.top_k:
        told["top"] = _top(prediction.distribution, options.top_k)
    return prediction.to_dict() | told


def _over(
    prediction: Prediction, source: LabelSpace, target: LabelSpace
) -> tuple[Prediction, float | None]:
    """The prediction told in another label space, and how much of it that space can tell."""
    if prediction.distribution is None:
        return prediction, None
    probabilities, share = in_space(list(prediction.distribution.values()), source, target)
    scored = Prediction.scored(
        probabilities,
        target,
        width=prediction.width or 0,
        height=prediction.height or 0,
        format=prediction.format or "",
        faces=tuple(_face_over(face, source, target) for face in prediction.faces),
    )
    return scored, round(float(share), _DECIMALS)


def _face_over(face: FacePrediction, source: LabelSpace, target: LabelSpace) -> FacePrediction:
    if face.distribution is None:
        return face
    probabilities, _ = in_space(list(face.distribution.values()), source, target)
    return dataclasses.replace(face, distribution=as_dict(probabilities, target))


def _top(distribution: dict[str, float] | None, count: int) -> list[dict[str, Any]] | None:
    if distribution is None:
        return None
    emotions, values = list(distribution), np.array(list(distribution.values()))
    ranked = np.argsort(-values, kind="stable")[:count]
    return [{"emotion": emotions[i], "probability": float(values[i])} for i in ranked]
