"""Any request is either read or rejected with a message."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moodlake.reasons import Rejected
from moodlake.serving.options import OF_EXPLAINING, OF_SCORING, OPTIONS, BadRequest
from moodlake.serving.requests import ServerRequest, from_parts, parse_request

TYPES = st.sampled_from(
    [
        "",
        "image/jpeg",
        "application/json",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary*=utf-8''%78",
        "; ;",
    ]
)
PIECES = st.sampled_from(
    [
        b"--x",
        b"--x--",
        b"\r\n",
        b"Content-Disposition: form-data; name=",
        b'"a"',
        b"name*=",
        b"; ",
        b"faces",
        b":",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n'), min_size=1).filter(
    lambda name: name not in OPTIONS and name == name.strip()
)


def read(body: bytes, kind: str, query: str) -> None:
    with suppress(BadRequest):
        request = parse_request(body, kind, query)
        assert isinstance(request, ServerRequest)
        for upload in request.uploads:
            assert isinstance(upload.data, bytes | Rejected)
        json.dumps([upload.name for upload in request.uploads])


@given(st.binary(), TYPES | st.text(), st.text())
def test_any_bytes(body: bytes, kind: str, query: str) -> None:
    read(body, kind, query)


@given(st.lists(PIECES | st.binary(max_size=8)), TYPES)
def test_almost_a_form(pieces: list[bytes], kind: str) -> None:
    read(b"".join(pieces), kind, "")


@given(JSON, st.sampled_from(["instances", "parameters", "other"]), JSON)
def test_any_json(content: object, name: str, inner: object) -> None:
    read(json.dumps(content).encode(), "application/json", "")
    read(json.dumps({"instances": [content], name: inner}).encode(), "application/json", "")


def test_some_address_accepts_each_option() -> None:
    assert set(OF_SCORING) | set(OF_EXPLAINING) == set(OPTIONS)


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - set(OF_EXPLAINING)))
def test_an_option_of_another_address_is_rejected(name: str) -> None:
    with pytest.raises(BadRequest, match=f"unknown option '{name}'; known: faces, emotion, image"):
        parse_request(b"image", "image/png", f"{name}=true", OF_EXPLAINING)


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded"])
def test_json_is_recognised_without_its_type(kind: str) -> None:
    body = json.dumps({"instances": [{"b64": base64.b64encode(b"image").decode()}]}).encode()
    assert [upload.data for upload in parse_request(body, kind).uploads] == [b"image"]
    for declared in ("image/png", "application/octet-stream"):
        assert [upload.data for upload in parse_request(body, declared).uploads] == [body]


@given(st.lists(st.tuples(NAMES, st.binary()), min_size=1, max_size=20))
@example([("<in brackets>", b"")])
def test_a_form_keeps_names_order_and_bytes(parts: list[tuple[str, bytes]]) -> None:
    boundary = "boundary-that-is-in-no-part"
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in parts
    )
    read_back = parse_request(
        body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
    )
    assert [(upload.name, upload.data) for upload in read_back.uploads] == parts


@given(st.lists(st.binary(), min_size=1, max_size=20))
def test_base64_keeps_order_and_bytes(images: list[bytes]) -> None:
    instances = [{"b64": base64.b64encode(data).decode()} for data in images]
    body = json.dumps({"instances": instances}).encode()
    read_back = parse_request(body, "application/json")
    assert [upload.data for upload in read_back.uploads] == images


@given(st.dictionaries(st.sampled_from(OPTIONS) | st.text(), st.binary()))
def test_any_named_parts(parts: dict[str, bytes]) -> None:
    with suppress(BadRequest):
        assert from_parts(parts).uploads is not None
