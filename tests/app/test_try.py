"""The page Try: uploads and their results."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from app.upload_source import MAX_FILES, MAX_UPLOAD_MB
from infra.stack import Stack
from moodlake.inference.bundle import read_meta
from moodlake.inference.decoding import decode
from moodlake.settings import RELEASED_ARCHIVE
from tests.app.test_upload_source import zipped
from tests.images_made import astronaut, astronaut_image, encode, jpeg

pytestmark = pytest.mark.e2e

RELEASED = read_meta(RELEASED_ARCHIVE)


def wait_until_idle(tab: Page) -> None:
    """Wait until the page Try has been drawn in full."""
    expect(tab.get_by_text("Uploads stay in memory")).to_be_visible()
    state = "data-test-script-state"
    expect(tab.get_by_test_id("stApp")).to_have_attribute(state, "notRunning")


def upload(tab: Page, *paths: Path) -> None:
    tab.locator("input[type=file]").set_input_files(list(paths))


def written(folder: Path, **files: bytes) -> list[Path]:
    """Write files, whose names have an underscore in place of the dot."""
    paths = []
    for name, data in files.items():
        path = folder / name.replace("_", ".", 1)
        path.write_bytes(data)
        paths.append(path)
    return paths


def bars(tab: Page) -> dict[str, str]:
    """Return the emotions and their percentages, in the order shown."""
    shown = tab.get_by_role("list", name="Emotions")
    expect(shown).to_be_visible()
    # In one call and without layout: the page may be redrawing the list.
    cells = "lines => lines.map(line => [line.firstChild.textContent, line.lastChild.textContent])"
    return dict(shown.get_by_role("listitem").evaluate_all(cells))


def test_an_image_is_shown_with_its_face_and_its_distribution(
    url: str, tab: Page, files: Path
) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()
    shown = bars(tab)
    assert next(iter(shown)) == "happiness"
    assert len(shown) == 8
    expect(tab.get_by_text("Of ten people asked, about")).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Image with faces").click()
    picture = decode(Path(download.value.path()).read_bytes())
    original = decode(astronaut())
    assert (picture.width, picture.height) == (original.width, original.height)
    changed = (picture.pixels != original.pixels).any(axis=2)
    assert 0 < changed.mean() < 0.2


def test_scores_are_shown_in_another_label_space(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    tab.get_by_role("combobox", name="Label space").click()
    tab.get_by_role("option", name="mood3").click()
    expect(tab.get_by_text("mood3 covers")).to_be_visible()
    assert set(bars(tab)) == {"happy", "sad", "angry"}


def test_scoring_a_whole_image_with_a_face_model_shows_a_warning(
    url: str, tab: Page, files: Path
) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()
    whole = tab.get_by_text("This model was trained on faces")
    for _ in range(2):
        tab.get_by_text("the whole image", exact=True).click()
        expect(whole).to_be_visible()
        expect(tab.get_by_role("img", name="without face detection")).to_be_visible()
        tab.get_by_text("the largest face", exact=True).click()
        expect(whole).not_to_be_visible()
        expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()


def test_a_heat_map_is_shown_on_demand(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    tab.get_by_text("Show which regions the model uses").click()
    expect(tab.get_by_role("img", name="Heat map: evidence for happiness")).to_be_visible()


def test_results_of_files_and_a_zip_are_downloaded(url: str, tab: Page, files: Path) -> None:
    packed = zipped({"in/face.jpg": encode(astronaut_image(), "JPEG"), "in/none.jpg": jpeg(3)})
    tab.goto(url)
    upload(
        tab,
        *written(files, astronaut_png=astronaut(), words_png=b"only words", photos_zip=packed),
    )
    expect(tab.get_by_text("2 scored, 2 rejected")).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Results (CSV)").click()
    text = Path(download.value.path()).read_text("utf-8")
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {key: row["reason"] or row["dominant"] for key, row in rows.items()} == {
        "astronaut.png": "happiness",
        "words.png": "not_an_image",
        "in/face.jpg": "happiness",
        "in/none.jpg": "no_face",
    }
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Results (Parquet)").click()
    table = pq.read_table(download.value.path())
    assert table["key"].to_pylist() == list(rows)
    assert table["face_boxes"].to_pylist()[0][0]["landmarks"]


def test_reloading_the_page_loses_no_upload(url: str, tab: Page, files: Path) -> None:
    packed = zipped({f"{n:03}.png": astronaut() for n in range(60)})
    tab.goto(url)
    upload(tab, *written(files, sixty_zip=packed))
    expect(tab.get_by_text(re.compile(r"Scored \d+ of 60"))).to_be_visible()
    tab.reload()
    expect(tab.get_by_text("60 scored, 0 rejected")).to_be_visible(timeout=180_000)


def test_uploads_stay_until_they_are_removed(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut(), words_png=b"only words"))
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    tab.get_by_role("link", name="About", exact=True).click()
    expect(tab.get_by_role("heading", name="What a score means")).to_be_visible()
    tab.get_by_role("link", name="Try", exact=True).click()
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    tab.get_by_text("Camera", exact=True).click()
    tab.get_by_text("Files", exact=True).click()
    wait_until_idle(tab)
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    upload(tab, *written(files, more_png=b"more words"))
    expect(tab.get_by_text("1 scored, 2 rejected")).to_be_visible()
    tab.get_by_role("button", name="Remove more.png").click()
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()


def test_another_model_scores_all_uploads_again(
    stack: Stack, url: str, tab: Page, files: Path
) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text(f"Scored by emotions {RELEASED['version']}")).to_be_visible()
    stack.use_version("8.0")
    try:
        upload(tab, *written(files, again_png=astronaut()))
        expect(tab.get_by_text("2 scored, 0 rejected")).to_be_visible()
        expect(tab.get_by_text("Scored by emotions 8.0")).to_be_visible()
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Results (Parquet)").click()
    finally:
        stack.use_version(RELEASED["version"])
    table = pq.read_table(download.value.path())
    assert table["model_version"].to_pylist() == ["8.0", "8.0"]


def test_a_photo_is_taken_with_the_camera(url: str, tab: Page) -> None:
    tab.context.grant_permissions(["camera"])
    tab.goto(url)
    tab.get_by_text("Camera", exact=True).click()
    tab.wait_for_function("document.querySelector('video')?.readyState === 4")
    tab.get_by_role("button", name="Take photo").click()
    # Chromium's test picture has no face.
    expect(tab.get_by_text("No face was found")).to_be_visible()


def test_each_of_many_faces_can_be_selected(url: str, tab: Page, files: Path) -> None:
    crowd = Image.new("RGB", (8 * 180, 5 * 180))
    face = astronaut_image().crop((100, 0, 356, 256)).resize((180, 180))
    for number in range(40):
        crowd.paste(face, (180 * (number % 8), 180 * (number // 8)))
    tab.goto(url)
    upload(tab, *written(files, crowd_png=encode(crowd, "PNG")))
    expect(tab.get_by_role("img", name="crowd.png, 32 faces found")).to_be_visible()
    expect(tab.get_by_text("32 faces found (the maximum)")).to_be_visible()
    expect(tab.get_by_text("Show which regions the model uses")).to_be_visible()
    tab.get_by_role("combobox", name="Face (largest first)").fill("32")
    tab.get_by_role("option", name="32", exact=True).click()
    # The server explains the largest face only.
    expect(tab.get_by_text("Show which regions the model uses")).not_to_be_visible()
    assert next(iter(bars(tab))) == "happiness"


def test_uploads_that_are_not_accepted_get_a_message(url: str, tab: Page, files: Path) -> None:
    many = zipped({f"{n}.jpg": b"x" for n in range(MAX_FILES + 1)})
    inner = zipped({"inner.zip": zipped({"a.jpg": jpeg()}), "../climbs.jpg": astronaut()})
    tab.goto(url)
    upload(
        tab,
        *written(files, many_zip=many, cut_zip=b"PK\x03\x04 cut", empty_zip=zipped({})),
        *written(files, nested_zip=inner),
    )
    expect(tab.get_by_text("many.zip contains 1,001 files")).to_be_visible()
    expect(tab.get_by_text("cut.zip cannot be read as a ZIP")).to_be_visible()
    expect(tab.get_by_text("empty.zip contains no files")).to_be_visible()
    expect(tab.get_by_text("1 scored, 1 rejected (1 not_an_image)")).to_be_visible()


def test_a_file_that_is_too_large_is_rejected_in_the_browser(
    url: str, tab: Page, files: Path
) -> None:
    large = files / "large.tif"
    with large.open("wb") as file:
        file.truncate(200 * 1_000_000)
    tab.goto(url)
    upload(tab, large, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text(f"File must be {MAX_UPLOAD_MB}.0MB or smaller")).to_be_visible()
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()


def test_file_names_are_shown_verbatim(url: str, tab: Page, files: Path) -> None:
    name = "<img src=x onerror=alert(1)> [a](b) **c** $d$ :red[e].png"
    (files / name).write_bytes(astronaut())
    tab.on("dialog", lambda dialog: pytest.fail("a file name was run as code"))
    tab.goto(url)
    upload(tab, files / name)
    expect(tab.get_by_role("heading", name=name)).to_be_visible()


def test_a_phone_stacks_picture_and_distribution(url: str, tab: Page, files: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    picture = tab.get_by_role("img", name="astronaut.png").bounding_box()
    distribution = tab.get_by_role("list", name="Emotions").bounding_box()
    assert picture
    assert distribution
    assert distribution["y"] > picture["y"] + picture["height"]
