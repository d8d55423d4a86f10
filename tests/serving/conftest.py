from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.server import ModelServer
from tests.bundles import write_archive


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A real TorchServe with a tiny model behind nginx, for tests that do not change it."""
    folder = tmp_path_factory.mktemp("server")
    with ModelServer(folder, write_archive(folder / "tiny.mar")) as shared:
        yield shared


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server of one module, whose tests may damage it."""
    folder = tmp_path_factory.mktemp("own")
    with ModelServer(folder, write_archive(folder / "tiny.mar")) as hurt:
        yield hurt
