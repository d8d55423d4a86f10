"""Request bodies for several images."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence


def as_form(images: Sequence[bytes]) -> tuple[str, bytes]:
    """Return Content-Type and body of a form with one part per image."""
    head = b'--part\r\nContent-Disposition: form-data; name="%d"\r\n\r\n'
    parts = (head % index + image + b"\r\n" for index, image in enumerate(images))
    return "multipart/form-data; boundary=part", b"".join(parts) + b"--part--\r\n"


def as_json(images: Sequence[bytes], **parameters: str) -> tuple[str, bytes]:
    """Return Content-Type and body of KServe's JSON."""
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    content = {"instances": instances, "parameters": parameters}
    return "application/json", json.dumps(content).encode()
