"""Read requests to the model server: one image, a form of many, or JSON with base64.

A form is RFC 7578's multipart/form-data. JSON follows KServe's v1 protocol, which SageMaker and
Vertex clients send too: {"instances": [...], "parameters": {...}}.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from moodlake.reasons import Reason, Rejected
from moodlake.serving.limits import MAX_IMAGES
from moodlake.serving.options import OF_SCORING, OPTIONS, BadRequest, Options

_MAX_FIELD_BYTES = 1_000
_MAX_QUERY_FIELDS = 32
# Text with more brackets, braces and commas is no list of images, and parsing it takes memory.
_MAX_JSON_MARKS = 20_000
# curl sends this type unless it is given another.
_DEFAULT_TYPE = "application/x-www-form-urlencoded"
_BASE64_KEYS = ("b64", "image_bytes", "content", "data", "image")


@dataclass(frozen=True)
class Upload:
    """One image of a request.

    Attributes:
        name: the name of its form field, the key of its instance, or its number.
        data: the encoded image, or why the request does not hold a readable one.
    """

    name: str
    data: bytes | Rejected


@dataclass(frozen=True)
class ServerRequest:
    """The images of a request in the order in which they were sent, and its options."""

    uploads: tuple[Upload, ...]
    options: Options


def parse_request(
    body: bytes,
    content_type: str = "",
    query: str = "",
    known: Sequence[str] = OF_SCORING,
) -> ServerRequest:
    """Read a request of any of the three kinds.

    Args:
        body: the request's body.
        content_type: its Content-Type; a body that is neither a multipart form nor JSON is one
            image. Without a type, a body that begins with a brace is JSON: no image does.
        query: the URL's query string, with options.
        known: names of the accepted options.

    Raises:
        BadRequest: the request is invalid; the message says what to send instead.
    """
    header = Message()
    header["Content-Type"] = content_type or _DEFAULT_TYPE
    kind = header.get_content_type()
    given = _query_fields(query)
    if kind == "multipart/form-data":
        uploads, fields = _read_form(body, _parameter(header, "boundary", "Content-Type"), known)
    elif kind == "application/json" or (kind == _DEFAULT_TYPE and re.match(rb"\s*\{", body)):
        uploads, fields = _read_json(body)
    else:
        uploads, fields = [Upload("0", body)] if body else [], []
    return _request(uploads, known, given, fields)


def from_parts(parts: Mapping[str, bytes], known: Sequence[str] = OF_SCORING) -> ServerRequest:
    """Read a request whose parts are already separate, as gRPC sends them.

    Raises:
        BadRequest: as for `parse_request`.
    """
    fields = [(name, _text(name, parts[name])) for name in parts if name in known]
    uploads = [Upload(name, bytes(data)) for name, data in parts.items() if name not in known]
    return _request(uploads, known, fields)


def _request(
    uploads: list[Upload], known: Sequence[str], *sources: list[tuple[str, str]]
) -> ServerRequest:
    """Combine images with options from several sources; a later source takes precedence."""
    given: dict[str, str] = {}
    for fields in sources:
        names = [name for name, _ in fields]
        if twice := {name for name in names if names.count(name) > 1}:
            raise BadRequest(f"options given twice: {', '.join(sorted(twice))[:100]}")
        Options.from_text(dict(fields), known)  # an overridden value must be valid, too
        given.update(fields)
    options = Options.from_text(given, known)
    if len(uploads) > MAX_IMAGES:
        raise _too_many(str(len(uploads)))
    if not (uploads or options.describe):
        raise BadRequest(
            "no image: send one as the body, several as parts of a form, or JSON with instances"
        )
    return ServerRequest(tuple(uploads), options)


def _too_many(count: str) -> BadRequest:
    return BadRequest(f"{count} images in one request; send at most {MAX_IMAGES} at a time", 413)


def _query_fields(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS, errors="strict"
        )
    except ValueError:
        raise BadRequest(
            f"the query {query[:60]!r} is invalid: send name=value&name=value"
        ) from None


def _text(name: str, value: bytes) -> str:
    try:
        return bytes(value[:_MAX_FIELD_BYTES]).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the option {name!r} is not text") from None


class _Form:
    """The parts of a form, collected by the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[tuple[Message, list[memoryview]]] = []
        self.ended = False
        self._field = self._value = b""

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_header_begin": self._on_header_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        if len(self.parts) >= MAX_IMAGES + len(OPTIONS):
            raise _too_many("more")
        self.parts.append((Message(), []))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].append(memoryview(data)[start:end])

    def _on_header_begin(self) -> None:
        self._field = self._value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._field.decode("latin-1")
        self.parts[-1][0][name] = self._value.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.ended = True


def _parameter(header: Message, name: str, of: str) -> str:
    """Return a header's parameter in either spelling of RFC 2231; "" if it has none."""
    try:
        value = header.get_param(name, "", header=of)
        # Text is unquoted already; a second time would strip the brackets of "<name>".
        return value if isinstance(value, str) else collapse_rfc2231_value(value)
    except (
        TypeError,
        ValueError,
        LookupError,
    ):  # invalid headers make the standard library raise any of these
        raise BadRequest(f"the header {of} is invalid") from None


def _read_form(
    body: bytes, boundary: str, known: Sequence[str]
) -> tuple[list[Upload], list[tuple[str, str]]]:
    if not boundary:
        raise BadRequest("the Content-Type of the form has no boundary")
    form = _Form()
    try:
        parser = MultipartParser(boundary.encode(), form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, UnicodeError, ValueError) as error:
        raise BadRequest(f"the form is invalid: {error}") from None
    if not form.ended:
        raise BadRequest("the form is cut off before its last boundary")
    uploads: list[Upload] = []
    fields: list[tuple[str, str]] = []
    for header, chunks in form.parts:
        name = _parameter(header, "name", "Content-Disposition")
        data = b"".join(chunks)
        if name in known and not _parameter(header, "filename", "Content-Disposition"):
            fields.append((name, _text(name, data)))
        else:
            uploads.append(Upload(name or str(len(uploads)), data))
    return uploads, fields


def _read_json(body: bytes) -> tuple[list[Upload], list[tuple[str, str]]]:
    if sum(map(body.count, (b"[", b"{", b","))) > _MAX_JSON_MARKS:
        raise BadRequest(f"the JSON holds too many values; send at most {MAX_IMAGES} images", 413)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {str(error)[:100]}") from None
    instances = content.get("instances") if isinstance(content, dict) else None
    parameters = content.get("parameters", {}) if isinstance(content, dict) else None
    if not isinstance(instances, list) or not isinstance(parameters, dict):
        raise BadRequest('send {"instances": [{"b64": "..."}], "parameters": {"faces": "all"}}')
    fields = [(name, _json_text(name, value)) for name, value in parameters.items()]
    return [_instance(index, each) for index, each in enumerate(instances)], fields


def _json_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int):
        return str(value)
    raise BadRequest(f"the parameter {name[:40]!r} must be a string, a number or a boolean")


def _instance(index: int, instance: Any) -> Upload:
    """Read base64 text, or an object with the text under one of _BASE64_KEYS; `key` names it."""
    name = str(index)
    if isinstance(instance, dict):
        name = str(instance.get("key", index))[:_MAX_FIELD_BYTES]
    encoded = instance
    while isinstance(encoded, dict):
        encoded = next((encoded[key] for key in _BASE64_KEYS if key in encoded), None)
    if not isinstance(encoded, str):
        known = ", ".join(_BASE64_KEYS)
        detail = f"the instance has no base64 text under one of {known}"
        return Upload(name, Rejected(Reason.NOT_AN_IMAGE, detail))
    try:
        return Upload(name, base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        return Upload(name, Rejected(Reason.NOT_AN_IMAGE, f"invalid base64: {error}"))
