"""The web app in a browser, with a running stack behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, Page, Request, ViewportSize, expect

from infra.browser import CHROMIUM, MISSING, chromium
from infra.demo import broken_files, face_crops, photos
from infra.local.ports import Ports
from infra.local.service import Service
from infra.local.web_app import WebAppService
from infra.pictures import screenshot, wait_until_drawn
from infra.stack import Stack
from moodlake.emotions import label_space
from moodlake.inference.bundle import read_meta
from moodlake.scoring.run.params import RunParams
from moodlake.scoring.sources.s3 import s3_client
from moodlake.settings import PROJECT_ROOT, RELEASED_ARCHIVE, Settings
from tests.bundles import write_archive
from tests.e2e.steps import fill, finish, started
from tests.training.published import EMOTION6_HEADER, image, write_table
from tests.training.stages import run_stage

# Tests wait for content instead of sleeping.
expect.set_options(timeout=120_000)
SCREENSHOTS = PROJECT_ROOT / "build" / "screenshots"
VIEWPORT: ViewportSize = {"width": 1200, "height": 900}
BUCKET = "moodlake-photos"
IMAGES = 60
"""Images in the data set that the page Data shows."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium with a fake camera. Package scope keeps Playwright's event loop to these tests."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with chromium(
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
    ) as running:
        yield running


class StackWithoutAirflow(Stack):
    """The web app links to Airflow but never calls it."""

    @property
    def services(self) -> tuple[Service, ...]:
        return tuple(each for each in super().services if each is not self.airflow)


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the web app, in which two models have scored the same photos."""
    folder = tmp_path_factory.mktemp("stack")
    with started(StackWithoutAirflow(folder, Ports.free(), web_app=True)) as running:
        faces = {key: data for key, data in face_crops().items() if key < "sample/face-06"}
        fill(s3_client(), BUCKET, photos() | broken_files() | faces)
        with pytest.MonkeyPatch.context() as patch:  # as Airflow does for its tasks
            patch.setenv("AIRFLOW_CTX_DAG_ID", "score_images")
            finish(running, "manual__2026-11-30", RunParams(BUCKET))
        running.versions.add(write_archive(folder / "newer.mar", version="8.0"))
        running.use_version("8.0")
        finish(running, "rescored", RunParams(BUCKET, faces="none"))
        running.use_version(read_meta(RELEASED_ARCHIVE)["version"])
        yield running


@pytest.fixture(scope="package")
def url(stack: Stack) -> str:
    """The URL of the stack's web app, which does not show images in buckets."""
    assert stack.web_app
    return stack.web_app.url


@pytest.fixture(scope="package")
def open_url(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a web app that shows images in buckets."""
    environment = stack.environment() | {"MOODLAKE_SHOW_IMAGES": "true"}
    folder = tmp_path_factory.mktemp("open")
    with WebAppService(folder, Ports.free().page, environment) as service:
        service.wait()
        yield service.url


@pytest.fixture(scope="package")
def shared_tab(browser: Browser) -> Iterator[Page]:
    """One tab for all tests: it compiles the scripts once, and shows no animations."""
    with browser.new_context(viewport=VIEWPORT, reduced_motion="reduce") as context:
        context.set_default_timeout(120_000)
        yield context.new_page()


@pytest.fixture
def tab(shared_tab: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A browser tab. Takes a screenshot if the test fails; fails after requests to other hosts."""
    shared_tab.context.clear_cookies()
    shared_tab.context.clear_permissions()
    shared_tab.set_viewport_size(VIEWPORT)
    shared_tab.emulate_media(color_scheme="light")
    other_hosts: list[str] = []

    def check(sent: Request) -> None:
        if not _is_local(sent.url):
            other_hosts.append(sent.url)

    shared_tab.on("request", check)
    failed = request.session.testsfailed
    yield shared_tab
    if request.session.testsfailed > failed:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        screenshot(shared_tab, SCREENSHOTS / f"{request.node.name}.png")
    wait_until_drawn(shared_tab)
    assert shared_tab.get_by_test_id("stException").count() == 0
    shared_tab.goto("about:blank")
    shared_tab.remove_listener("request", check)
    assert other_hosts == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder for the files to upload."""
    return tmp_path


def write_emotion6(folder: Path) -> Path:
    """Write a data set in Emotion6's published format."""
    rng = np.random.default_rng(6)
    emotions = label_space("emotion6").emotions
    rows: list[list[object]] = []
    for number in range(IMAGES):
        shares = rng.multinomial(15, rng.dirichlet(np.ones(len(emotions)))) / 15
        feeling = rng.uniform(1, 9, 2).round(2)
        rows.append([f"joy/{number}.jpg", *feeling.tolist(), *shares.round(7).tolist()])
        image(folder / "images" / f"joy/{number}.jpg", number)
    write_table(folder / "ground_truth.txt", EMOTION6_HEADER, rows, tab=True)
    return folder


@pytest.fixture(scope="package")
def data_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a web app with a prepared data set."""
    folder = tmp_path_factory.mktemp("data")
    params = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text("utf-8"))
    params["data"] |= {"name": "emotion6", "path": str(write_emotion6(folder / "emotion6"))}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in ("prepare", "validate", "overview"):
        run_stage(stage, folder)
    settings = Settings(
        results_uri=str(folder / "lake"), data_overview=folder / "data" / "overview"
    )
    with WebAppService(folder / "page", Ports.free().page, settings.to_environment()) as service:
        service.wait()
        yield service.url
