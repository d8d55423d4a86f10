"""The command `serve`: the model server alone, as in its container."""

from __future__ import annotations

import fcntl
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodlake.cli.console import (
    DEFAULT_STATE,
    ArchivePath,
    console,
    report_errors,
    stop_undisturbed,
    stopping_cleanly,
)
from moodlake.errors import UserError
from moodlake.settings import RELEASED_ARCHIVE, STATE_VARIABLE, Settings

if TYPE_CHECKING:
    from infra.local.gateway import Certificate
    from infra.local.server import ModelServer

_CHECK_SECONDS = 1.0


def serve(
    host: Annotated[str, typer.Option(help="Bind address.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port. Default: 8080.")] = None,
    model: ArchivePath = RELEASED_ARCHIVE,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. Default: one per core.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file: server certificate first, then the chain.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The certificate's private key, a PEM file.")
    ] = None,
    state: Annotated[
        Path, typer.Option(envvar=STATE_VARIABLE, help="Folder of the server's files and logs.")
    ] = DEFAULT_STATE / "serve",
) -> None:
    """Run the model server alone: TorchServe behind nginx.

    Ctrl-C stops it after the requests in progress. Clients authenticate with the token in
    MOODLAKE_SERVER_KEYS: a key_file.json, or the ARN of a secret. If the variable is not set, the
    server generates a token.
    """
    with report_errors(), stopping_cleanly() as stopped:
        from infra.local.cores import usable_cores
        from infra.local.ports import Ports, ensure_free
        from infra.local.server import ModelServer
        from moodlake.inference.bundle import read_meta
        from moodlake.serving.token import read_token

        read_meta(model)
        listening = port or Ports().gateway
        ensure_free(listening, host)
        folder = state.absolute()
        server = ModelServer(
            folder,
            model.absolute(),
            listening,
            workers or usable_cores(),
            host=host,
            token=read_token(Settings.from_environment().server_keys),
            certificate=_certificate(certificate, key),
        )
        with _locked(folder):
            _run(server, stopped)


def _run(server: ModelServer, stopped: threading.Event) -> None:
    """Run until `stopped` is set; fail if a part of the server ends earlier."""
    from infra.local.service import NotReady

    try:
        server.start()
        console.print(
            f"The model server is at {server.gateway.url}, its token in {server.gateway.keys}. "
            "Press Ctrl-C to stop it.",
            soft_wrap=True,
        )
        while not stopped.wait(_CHECK_SECONDS):
            server.check_alive()
    except NotReady as error:
        raise UserError(str(error)) from error
    finally:
        stop_undisturbed(server.stop)


def _certificate(chain: Path | None, key: Path | None) -> Certificate | None:
    from infra.local.gateway import Certificate

    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise UserError("--certificate and --key must be given together")
    for file in (chain, key):
        file.open("rb").close()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except ssl.SSLError as error:
        raise UserError(
            f"{chain} and {key} are not a PEM certificate and its private key"
        ) from error
    return Certificate(chain.absolute(), key.absolute())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other servers.

    Raises:
        UserError: a server is running in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another model server is running in {folder}; choose another folder with --state"
            ) from error
        yield
