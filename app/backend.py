"""What the web app talks to: settings, a client of the model server, and upload sessions."""

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

_lock = threading.Lock()
_stack_environment: dict[str, str] | None = None


def settings() -> Settings:
    """Return the settings in the environment, or those of the local stack while one runs."""
    with _lock:
        if state := os.environ.get(STATE_VARIABLE):
            _use_stack(Path(state))
        return Settings.from_environment()


def _use_stack(state: Path) -> None:
    """Point this process at the stack running from the folder `state`, if there is one."""
    global _stack_environment
    with contextlib.suppress(StackError):
        environment = environment_of(state)
        if environment != _stack_environment:
            point_here(environment)
            _stack_environment = environment


def connect_to_server() -> ServerClient:
    """Connect to the model server's default model.

    Raises:
        ServerError: the server cannot be reached.
    """
    return connect(settings(), interactive=True)


@st.cache_resource
def upload_sessions() -> SessionStore:
    """Return the store of all users' upload sessions, one for the whole process."""
    return SessionStore(connect_to_server)
