"""Answers of the model server: predictions and descriptions as JSON values, for handlers/."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from moodlake.emotions import LabelSpace, in_space
from moodlake.inference.gradcam import NO_FEATURE_MAPS
from moodlake.inference.model import Model, OutOfTime
from moodlake.prediction import FacePrediction, Prediction, as_dict
from moodlake.reasons import Rejected
from moodlake.serving.explanations import as_array
from moodlake.serving.limits import MAX_EXPLAINED, MAX_SECONDS
from moodlake.serving.options import BadRequest, Options
from moodlake.serving.requests import ServerRequest, Upload
from moodlake.timings import Timings

_DECIMALS = 6


def describe(model: Model) -> dict[str, Any]:
    """Return the answer to describe=true: the model's identity, labels and provenance."""
    return {
        "model": dataclasses.asdict(model.identity),
        "label_space": {"name": model.space.name, "emotions": model.space.emotions},
        "faces": model.faces,
        "provenance": model.provenance,
        "reference": model.reference,
    }


def answer(
    model: Model, request: ServerRequest, timings: Timings
) -> tuple[list[Prediction], dict[str, Any]]:
    """Score a request's images.

    Args:
        model: the model to score with.
        request: the images and options.
        timings: the seconds of each step are added to it.

    Returns:
        The predictions over the model's own label space, and the JSON answer (see openapi.json).

    Raises:
        BadRequest: the images take longer than MAX_SECONDS, or cannot be explained as requested.
    """
    options = request.options
    _check(model, request)
    end = time.monotonic() + MAX_SECONDS
    predictions = _score(model, request, timings)
    items = [
        {"name": upload.name, **_to_json(prediction, model.space, options)}
        for upload, prediction in zip(request.uploads, predictions, strict=True)
    ]
    if options.explain:
        for number, (upload, prediction) in enumerate(
            zip(request.uploads, predictions, strict=True)
        ):
            if number and time.monotonic() > end:
                raise _took_too_long(f"explaining {number} of {len(items)} images")
            with timings.step("explain"):
                items[number]["explanation"] = _explained(model, upload, prediction, options)
    content: dict[str, Any] = {"model": dataclasses.asdict(model.identity)}
    content["label_space"] = (options.label_space or model.space).name
    content["predictions"] = items
    if options.timings:
        content["timings"] = timings.to_dict()
    return predictions, content


def _check(model: Model, request: ServerRequest) -> None:
    """Reject, before scoring, a request whose explanations would fail."""
    options = request.options
    if options.explain and len(request.uploads) > MAX_EXPLAINED:
        raise BadRequest(f"explain=true takes at most {MAX_EXPLAINED} images at a time", 413)
    if options.explain and not model.explainable:
        raise BadRequest(f"{NO_FEATURE_MAPS}; send the request without explain")
    if options.emotion is not None:
        try:
            model.space.index(options.emotion)
        except ValueError as error:
            raise BadRequest(str(error)) from error


def _score(model: Model, request: ServerRequest, timings: Timings) -> list[Prediction]:
    encoded = [upload.data for upload in request.uploads if isinstance(upload.data, bytes)]
    try:
        predictions = model.score(
            encoded, faces=request.options.faces, timings=timings, seconds=MAX_SECONDS
        )
    except OutOfTime as error:
        raise _took_too_long(str(error)) from error
    scored = iter(predictions)
    return [
        Prediction.rejected(upload.data) if isinstance(upload.data, Rejected) else next(scored)
        for upload in request.uploads
    ]


def _took_too_long(action: str) -> BadRequest:
    return BadRequest(f"{action} took more than {MAX_SECONDS:g} seconds: send fewer at a time", 413)


def _explained(
    model: Model, upload: Upload, prediction: Prediction, options: Options
) -> dict[str, Any] | None:
    if prediction.distribution is None or isinstance(upload.data, Rejected):
        return None
    return as_array(model.explain(upload.data, options.emotion, faces=options.faces))


def _to_json(prediction: Prediction, space: LabelSpace, options: Options) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if options.label_space:
        prediction, share = _over(prediction, space, options.label_space)
        extra["label_space_share"] = share
    if options.top_k:
        extra["top"] = _top(prediction.distribution, options.top_k)
    return prediction.to_dict() | extra


def _over(
    prediction: Prediction, source: LabelSpace, target: LabelSpace
) -> tuple[Prediction, float | None]:
    """Return the prediction over `target`, and the share of it that `target` can express."""
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
        brightness=prediction.brightness,
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
