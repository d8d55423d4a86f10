"""Answers of POST /explanations: a heat map, as a picture or as numbers."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import cv2
import numpy as np

from moodlake.inference.model import Explanation, Model
from moodlake.reasons import Rejected
from moodlake.serving.limits import MAX_EXPLAINED
from moodlake.serving.options import BadRequest
from moodlake.serving.requests import ServerRequest

_PICTURE_SIDE = 384
_OPACITY = 0.5


def explain_request(model: Model, request: ServerRequest) -> tuple[str, bytes | str]:
    """Return the content type and the content of the answer: a PNG, or JSON with the array.

    Raises:
        BadRequest: there is not exactly one image, it cannot be scored, the model does not know
            the emotion, or the model has no heat maps.
    """
    if len(request.uploads) != 1:
        raise BadRequest(
            f"{len(request.uploads)} images: send exactly one; "
            f"/predictions with explain=true takes up to {MAX_EXPLAINED}"
        )
    data = request.uploads[0].data
    if isinstance(data, Rejected):
        raise BadRequest(str(data))
    try:
        explanation = model.explain(data, request.options.emotion, faces=request.options.faces)
    except (Rejected, ValueError) as error:
        raise BadRequest(str(error)) from error
    if request.options.image == "array":
        content = {"model": dataclasses.asdict(model.identity), **as_array(explanation)}
        return "application/json", json.dumps(content)
    return "image/png", picture(explanation)


def as_array(explanation: Explanation) -> dict[str, Any]:
    """Return the emotion, and the heat map as rows of numbers, as JSON values."""
    heat = np.round(explanation.heat.astype(float), 4).tolist()
    return {"emotion": explanation.emotion, "heat": heat}


def picture(explanation: Explanation) -> bytes:
    """Draw the heat map (yellow: most) over the model's input in grey; returns a PNG."""
    grey = explanation.crop.mean(axis=0).astype(np.uint8)
    side = (_PICTURE_SIDE, _PICTURE_SIDE)
    heat = cv2.resize((explanation.heat * 255).astype(np.uint8), side)
    coloured = cv2.applyColorMap(heat, cv2.COLORMAP_VIRIDIS)
    below = cv2.cvtColor(cv2.resize(grey, side), cv2.COLOR_GRAY2BGR)
    blended = cv2.addWeighted(coloured, _OPACITY, below, 1 - _OPACITY, 0)
    return cv2.imencode(".png", blended)[1].tobytes()
