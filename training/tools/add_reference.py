"""Add a drift reference to an archive, or replace it.

`python -m training.tools.add_reference ARCHIVE [DATA_PATH]` prepares the data set again, as the
archive's provenance describes it; it must yield the rows that the model was trained on. The rest of
the archive and the model's digest do not change.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moodlake.inference.bundle import BundleError, read_meta
from moodlake.profile import Profile
from training.data_set.preparation import prepare
from training.datasets import load_dataset
from training.files import written_whole
from training.packaging.archive import zip_canonically
from training.packaging.reference import add_reference
from training.params import DataParams
from training.stage import stage


def repack(archive: Path, data: Path | None = None) -> Profile:
    """Add the reference to `archive`, in place; returns it.

    Args:
        archive: a .mar.
        data: path of the data set's files, unless moodlake generates them.

    Raises:
        BundleError: it is no archive, or its model was trained on other rows.
        DatasetError: the data set is absent or damaged.
    """
    provenance = read_meta(archive)["provenance"]
    params = DataParams(**provenance["params"]["data"])
    params = replace(params, path=str(data) if data else params.path)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        samples = folder / "samples.parquet"
        facts = prepare(load_dataset(params), params, samples, folder / "facts.json")
        if facts["digest"] != provenance["data_digest"]:
            raise BundleError(
                f"{archive} was made from other rows of {params.name} than these (data digest "
                f"{provenance['data_digest'][:12]}, not {facts['digest'][:12]})"
            )
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder / "archive")
        profile = add_reference(folder / "archive", samples)
        with written_whole(archive) as part:
            zip_canonically(folder / "archive", part)
    return profile


@stage("add_reference")
def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    if len(arguments) not in (1, 2):
        raise BundleError("usage: python -m training.tools.add_reference ARCHIVE [DATA_PATH]")
    archive, *data = map(Path, arguments)
    profile = repack(archive, *data)
    print(f"{archive}: reference of {profile.scored} images, digest {read_meta(archive)['digest']}")


if __name__ == "__main__":
    main(sys.argv[1:])
