"""Where the page finds the model server and the tables."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import streamlit as st

from app.desks import Desks
from moodlake.serving.client import ServerClient
from moodlake.settings import STATE_VARIABLE, Settings

_ATTEMPTS = 3
_TIMEOUT = 60.0
_lock = threading.Lock()
_clients: dict[Settings, ServerClient] = {}


def settings() -> Settings:
    """The addresses in the environment; or those of the local stack, as soon as one runs."""
    if state := os.environ.get(STATE_VARIABLE):
        from infra.local.stack import StackError, attach

        with contextlib.suppress(StackError), _lock:
            stack = attach(Path(state))
            if Settings.from_environment() != stack.settings:
                stack.point_here()
    return Settings.from_environment()


def connect(anew: bool = False) -> ServerClient:
    """The client of the model server, which all share.

    Args:
        anew: ask again what it serves: the last answer was an error.

    Raises:
        ServerError: it is out of reach.
    """
    found = settings()
    with _lock:
        if anew and (old := _clients.pop(found, None)):
            old.close()
        if found not in _clients:
            _clients[found] = ServerClient(
                found.server_url, found.server_keys, attempts=_ATTEMPTS, timeout=_TIMEOUT
            )
        return _clients[found]


@st.cache_resource
def desks() -> Desks:
    """Those of everybody who uses this page."""
    return Desks(connect)
