"""The reference in an archive, which runs are compared with."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moodlake.inference.bundle import read_meta
from moodlake.inference.model import Model
from moodlake.profile import Profile
from moodlake.settings import RELEASED_ARCHIVE
from tests.bundles import write_archive, write_bundle
from tests.images_made import encode, picture
from training.data_set.preparation import prepare
from training.data_set.samples import SCHEMA
from training.datasets import drawn, load_dataset
from training.packaging.reference import reference_of
from training.params import DataParams
from training.tools.add_reference import main, repack

DATA = DataParams("drawn", limit=120)


@pytest.fixture(autouse=True)
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw hardly more faces than the limit: a face takes milliseconds."""
    monkeypatch.setattr(drawn, "_COUNTS", {"train": 100, "valid": 40})


def samples(folder: Path, *sizes: tuple[int, int]) -> Path:
    files = [encode(picture(seed, *size), "PNG") for seed, size in enumerate(sizes)]
    rows = [{"split": "valid", "image": file, "distribution": [1.0]} for file in files]
    rows.append(rows[0] | {"split": "train"})
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "samples.parquet")
    return folder / "samples.parquet"


def test_the_reference_is_a_profile_of_the_validation_rows_as_scored(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "model"))
    sizes = [(40, 30), (90, 300), (64, 64)]
    made = reference_of(model, samples(tmp_path, *sizes))
    files = [encode(picture(seed, *size), "PNG") for seed, size in enumerate(sizes)]
    scored = [item for item in model.score(files) if item.distribution and item.brightness]
    assert made == Profile.of(
        model.space,
        [list((item.distribution or {}).values()) for item in scored],
        brightness=[item.brightness for item in scored],
        sizes=[30, 90, 64],
    )


def test_a_reference_has_no_sizes_if_all_images_have_the_same(tmp_path: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "model"))
    made = reference_of(model, samples(tmp_path, (48, 48), (48, 60)))
    assert made.size == {}
    assert made.outcomes == {}
    assert made.scored == 2


def archive_of(path: Path, data_digest: str) -> Path:
    params = {"data": {"name": "drawn", "limit": DATA.limit}}
    provenance = {"data_name": "drawn", "data_digest": data_digest, "params": params}
    return write_archive(path, provenance=provenance)


def test_adding_a_reference_changes_nothing_else_in_the_archive(tmp_path: Path) -> None:
    facts = prepare(load_dataset(DATA), DATA, tmp_path / "samples.parquet", tmp_path / "facts.json")
    archive = archive_of(tmp_path / "model.mar", facts["digest"])
    before = read_meta(archive)
    with zipfile.ZipFile(archive) as content:
        files = {name: content.read(name) for name in content.namelist()}
    main([str(archive)])
    after, model = read_meta(archive), Model.load(archive)
    assert model.reference == reference_of(model, tmp_path / "samples.parquet").to_dict()
    assert {name: value for name, value in after.items() if name != "reference"} == before
    with zipfile.ZipFile(archive) as content:
        assert sorted(content.namelist()) == sorted(files)
        changed = [name for name in files if content.read(name) != files[name]]
    assert changed == ["model.json"]
    packed = archive.read_bytes()
    repack(archive)
    assert archive.read_bytes() == packed


def test_a_reference_from_other_rows_is_an_error(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.mar", "another")
    before = archive.read_bytes()
    with pytest.raises(SystemExit, match=r"^add_reference: .*made from other rows of drawn"):
        main([str(archive)])
    assert archive.read_bytes() == before


def test_the_released_archive_carries_a_reference() -> None:
    meta = read_meta(RELEASED_ARCHIVE)
    reference = Profile.from_dict(meta["reference"])
    assert set(reference.emotions) == set(meta["label_space"]["emotions"])
    assert reference.scored > 1000
    assert sum(reference.brightness.values()) == reference.scored
    shares = np.array(list(reference.emotions.values())) / sum(reference.emotions.values())
    assert shares.max() < 0.6
