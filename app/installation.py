"""Where the page finds the model server and the tables."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import streamlit as st

from app.session_store import SessionStore
from moodlake.local_stack import StackError, environment_of, point_here
from moodlake.serving.client import ServerClient, connect
from moodlake.settings import STATE_VARIABLE, Settings

_pointing = threading.Lock()
_pointed: dict[str, str] | None = None


def settings() -> Settings:
    """The addresses in the environment; or those of the local stack, as soon as one runs."""
    with _pointing:
        if state := os.environ.get(STATE_VARIABLE):
            _point_at(Path(state))
        return Settings.from_environment()


def _point_at(state: Path) -> None:
    """Lead this process to the stack that runs from `state`, if one does; once."""
    global _pointed
    with contextlib.suppress(StackError):
        environment = environment_of(state)
        if environment != _pointed:
            point_here(environment)
            _pointed = environment


def connect_to_server() -> ServerClient:
    """Connect to the model server, for the model that it uses now.

    Raises:
        ServerError: it is out of reach.
    """
    return connect(settings(), interactive=True)


@st.cache_resource
def desks() -> SessionStore:
    """Those of everybody who uses this page."""
    return SessionStore(connect_to_server)
