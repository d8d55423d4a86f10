"""Try: what a person uploads, and what the page says of it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from app.uploads import MAX_FILES, MAX_UPLOAD_MB
from infra.stack import Stack
from moodlake.inference.bundle import read_meta
from moodlake.inference.decoding import decode
from moodlake.settings import RELEASED_ARCHIVE
from tests.app.test_uploads import zipped
from tests.images_made import astronaut, astronaut_image, encode, jpeg

pytestmark = pytest.mark.e2e

RELEASED = read_meta(RELEASED_ARCHIVE)


def at_rest(tab: Page) -> None:
    """Wait until the page has said all it has to say."""
    expect(tab.get_by_text("The page keeps no file")).to_be_visible()
    state = "data-test-script-state"
    expect(tab.get_by_test_id("stApp")).to_have_attribute(state, "notRunning")


def upload(tab: Page, *paths: Path) -> None:
    tab.locator("input[type=file]").set_input_files(list(paths))


def written(folder: Path, **files: bytes) -> list[Path]:
    paths = []
    for name, data in files.items():
        path = folder / name.replace("_", ".", 1)
        path.write_bytes(data)
        paths.append(path)
    return paths


def bars(tab: Page) -> dict[str, str]:
    """The emotions and their numbers, as they stand on the page."""
    shown = tab.get_by_role("list", name="Emotions")
    expect(shown).to_be_visible()
    # In one go and without the layout, for the page may be drawing it anew.
    ends = "lines => lines.map(line => [line.firstChild.textContent, line.lastChild.textContent])"
    return dict(shown.get_by_role("listitem").evaluate_all(ends))


def test_an_image_is_shown_with_its_face_and_its_distribution(
    url: str, tab: Page, files: Path
) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()
    told = bars(tab)
    assert next(iter(told)) == "happiness"
    assert len(told) == 8
    expect(tab.get_by_text("Of ten people asked, about")).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Picture with faces").click()
    picture = decode(Path(download.value.path()).read_bytes())
    original = decode(astronaut())
    assert (picture.width, picture.height) == (original.width, original.height)
    changed = (picture.pixels != original.pixels).any(axis=2)
    assert 0 < changed.mean() < 0.2


def test_another_label_space_tells_the_same_in_its_emotions(
    url: str, tab: Page, files: Path
) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    tab.get_by_role("combobox", name="Emotions of").click()
    tab.get_by_role("option", name="mood3").click()
    expect(tab.get_by_text("mood3 has names for")).to_be_visible()
    assert set(bars(tab)) == {"happy", "sad", "angry"}


def test_that_a_whole_image_is_no_face_is_told(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()
    whole = tab.get_by_text("This model learnt from faces")
    for _ in range(2):
        tab.get_by_text("the whole image", exact=True).click()
        expect(whole).to_be_visible()
        expect(tab.get_by_role("img", name="faces were not looked for")).to_be_visible()
        tab.get_by_text("the largest face", exact=True).click()
        expect(whole).not_to_be_visible()
        expect(tab.get_by_role("img", name="astronaut.png, 1 face found")).to_be_visible()


def test_a_heat_map_on_demand(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    tab.get_by_text("Where does the model see it?").click()
    expect(tab.get_by_role("img", name="Heat map: what speaks for happiness")).to_be_visible()


def test_many_files_and_a_zip_make_a_table_to_take_away(url: str, tab: Page, files: Path) -> None:
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


def test_a_refresh_loses_nothing_that_was_laid_there(url: str, tab: Page, files: Path) -> None:
    packed = zipped({f"{n:03}.png": astronaut() for n in range(60)})
    tab.goto(url)
    upload(tab, *written(files, sixty_zip=packed))
    expect(tab.get_by_text(re.compile(r"Read \d+ of 60"))).to_be_visible()
    tab.reload()
    expect(tab.get_by_text("60 scored, 0 rejected")).to_be_visible(timeout=60_000)


def test_what_is_there_stays_until_it_is_taken_back(url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut(), words_png=b"only words"))
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    tab.get_by_role("link", name="About", exact=True).click()
    expect(tab.get_by_role("heading", name="What a score means")).to_be_visible()
    tab.get_by_role("link", name="Try", exact=True).click()
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    tab.get_by_text("Camera", exact=True).click()
    tab.get_by_text("Files", exact=True).click()
    at_rest(tab)
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()
    upload(tab, *written(files, more_png=b"more words"))
    expect(tab.get_by_text("1 scored, 2 rejected")).to_be_visible()
    tab.get_by_role("button", name="Remove more.png").click()
    expect(tab.get_by_text("1 scored, 1 rejected")).to_be_visible()


def test_another_model_reads_all_of_it_anew(stack: Stack, url: str, tab: Page, files: Path) -> None:
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text(f"Read by emotions {RELEASED['version']}")).to_be_visible()
    stack.use_version("8.0")
    try:
        upload(tab, *written(files, again_png=astronaut()))
        expect(tab.get_by_text("2 scored, 0 rejected")).to_be_visible()
        expect(tab.get_by_text("Read by emotions 8.0")).to_be_visible()
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Results (Parquet)").click()
    finally:
        stack.use_version(RELEASED["version"])
    table = pq.read_table(download.value.path())
    assert table["model_version"].to_pylist() == ["8.0", "8.0"]


def test_the_camera(url: str, tab: Page) -> None:
    tab.context.grant_permissions(["camera"])
    tab.goto(url)
    tab.get_by_text("Camera", exact=True).click()
    tab.wait_for_function("document.querySelector('video')?.readyState === 4")
    tab.get_by_role("button", name="Take photo").click()
    # Chromium's test picture has no face.
    expect(tab.get_by_text("No face was found")).to_be_visible()


def test_of_forty_faces_each_that_is_found_is_told(url: str, tab: Page, files: Path) -> None:
    crowd = Image.new("RGB", (8 * 180, 5 * 180))
    face = astronaut_image().crop((100, 0, 356, 256)).resize((180, 180))
    for number in range(40):
        crowd.paste(face, (180 * (number % 8), 180 * (number // 8)))
    tab.goto(url)
    upload(tab, *written(files, crowd_png=encode(crowd, "PNG")))
    expect(tab.get_by_role("img", name="crowd.png, 32 faces found")).to_be_visible()
    expect(tab.get_by_text("and no more are looked for")).to_be_visible()
    expect(tab.get_by_text("Where does the model see it?")).to_be_visible()
    tab.get_by_role("combobox", name="Face (largest first)").fill("32")
    tab.get_by_role("option", name="32", exact=True).click()
    # The server explains the largest face only.
    expect(tab.get_by_text("Where does the model see it?")).not_to_be_visible()
    assert next(iter(bars(tab))) == "happiness"


def test_what_the_page_does_not_take_gets_a_sentence(url: str, tab: Page, files: Path) -> None:
    many = zipped({f"{n}.jpg": b"x" for n in range(MAX_FILES + 1)})
    inner = zipped({"inner.zip": zipped({"a.jpg": jpeg()}), "../climbs.jpg": astronaut()})
    tab.goto(url)
    upload(
        tab,
        *written(files, many_zip=many, cut_zip=b"PK\x03\x04 cut", empty_zip=zipped({})),
        *written(files, nested_zip=inner),
    )
    expect(tab.get_by_text("many.zip holds 1,001 files")).to_be_visible()
    expect(tab.get_by_text("cut.zip cannot be read as a ZIP")).to_be_visible()
    expect(tab.get_by_text("empty.zip holds no files")).to_be_visible()
    expect(tab.get_by_text("1 scored, 1 rejected (1 not_an_image)")).to_be_visible()


def test_a_file_that_is_too_large_is_refused_in_the_browser(
    url: str, tab: Page, files: Path
) -> None:
    large = files / "large.tif"
    with large.open("wb") as file:
        file.truncate(200 * 1_000_000)
    tab.goto(url)
    upload(tab, large, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_text(f"File must be {MAX_UPLOAD_MB}.0MB or smaller")).to_be_visible()
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()


def test_names_of_files_are_shown_as_they_are(url: str, tab: Page, files: Path) -> None:
    name = "<img src=x onerror=alert(1)> [a](b) **c** $d$ :red[e].png"
    (files / name).write_bytes(astronaut())
    tab.on("dialog", lambda dialog: pytest.fail("a file's name was run"))
    tab.goto(url)
    upload(tab, files / name)
    expect(tab.get_by_role("heading", name=name)).to_be_visible()


def test_a_phone_shows_all_below_each_other(url: str, tab: Page, files: Path) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(url)
    upload(tab, *written(files, astronaut_png=astronaut()))
    expect(tab.get_by_role("list", name="Emotions")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    picture = tab.get_by_role("img", name="astronaut.png").bounding_box()
    told = tab.get_by_role("list", name="Emotions").bounding_box()
    assert picture
    assert told
    assert told["y"] > picture["y"] + picture["height"]
