"""What managed Airflow (MWAA) is given, built from the project and put into its bucket.

On each of its machines MWAA unpacks plugins.zip, runs startup.sh and installs requirements.txt.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from botocore.client import BaseClient

from infra.aws.stack import CloudError, translate_errors
from infra.local.airflow import POOL
from moodlake.scoring.run.code_version import COMMIT_VARIABLE, LOCK_VARIABLE, dvc_lock, git_commit
from moodlake.settings import PROJECT_ROOT

AIRFLOW_VERSION = "3.0.6"
"""The newest that MWAA runs, on Python 3.12."""
CONSTRAINTS = Path(__file__).with_name("mwaa_constraints.txt")
"""What is added to MWAA's image, or newer than in it; all else stays as it is there."""
DAGS, REQUIREMENTS, PLUGINS, STARTUP = "dags", "requirements.txt", "plugins.zip", "startup.sh"
UNPACKED = Path("/usr/local/airflow/plugins")
"""Where MWAA unpacks plugins.zip."""
_ELSEWHERE = {"retrain.py"}
"""DAGs that need DVC, PyTorch and a checkout."""
_VERSIONS = {
    "RequirementsVersion": REQUIREMENTS,
    "PluginsVersion": PLUGINS,
    "StartupVersion": STARTUP,
}
_STARTUP = r"""#!/bin/sh
# Options of Airflow are all that MWAA lets one set: moodlake.x is MOODLAKE_X for the tasks.
eval "$(env | sed -n \
    's/^AIRFLOW__MOODLAKE__\([A-Z_]*\)=.*/export MOODLAKE_\1="$AIRFLOW__MOODLAKE__\1"/p')"
"""
_SOURCES = ("pyproject.toml", "README.md", "LICENSE")
"""Of the wheel, beside its packages."""
_TYPES = {".py": "text/x-python", ".sh": "text/x-shellscript", ".txt": "text/plain"}
_DIGEST = "sha256"
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a ZIP can tell."""
_OLDEST_SECONDS = "315532800"
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@dataclass(frozen=True)
class Uploaded:
    """What the bucket holds now.

    Attributes:
        changed: keys of what was not there as it is now.
        removed: keys of DAGs that are no longer there.
        versions: of the objects that MWAA takes by version, named as the template's parameters:
            RequirementsVersion, PluginsVersion, StartupVersion.
    """

    changed: tuple[str, ...]
    removed: tuple[str, ...]
    versions: dict[str, str]


def build(folder: Path) -> None:
    """Write dags/, requirements.txt, plugins.zip and startup.sh; the same tree, the same bytes.

    Args:
        folder: gets them; made if absent.

    Raises:
        CloudError: the wheel cannot be built.
    """
    dags = folder / DAGS
    dags.mkdir(parents=True, exist_ok=True)
    for source in sorted((PROJECT_ROOT / "dags").glob("*.py")):
        if source.name not in _ELSEWHERE:
            shutil.copyfile(source, dags / source.name)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _wheel(Path(temporary))
        _write_zip(folder / PLUGINS, [CONSTRAINTS, wheel])
        (folder / REQUIREMENTS).write_text(
            f'--constraint "{UNPACKED / CONSTRAINTS.name}"\n'
            f"moodlake[managed] @ file://{UNPACKED / wheel.name}\n",
            "utf-8",
        )
    (folder / STARTUP).write_text(_STARTUP + _source(), "utf-8")


def _source() -> str:
    """Of the code in the wheel, for the table of runs."""
    told = {COMMIT_VARIABLE: git_commit(*_SOURCES, *_packages()), LOCK_VARIABLE: dvc_lock()}
    return "".join(f"export {name}={value}\n" for name, value in told.items() if value)


def _packages() -> list[str]:
    """The folders of the wheel's packages."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))
    patterns: list[str] = project["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.removesuffix("*") for pattern in patterns]


def _wheel(folder: Path) -> Path:
    """The project's wheel, built from a copy: a checkout may hold remains of earlier builds."""
    copy, out = folder / "source", folder / "wheel"
    copy.mkdir()
    for name in _SOURCES:
        shutil.copyfile(PROJECT_ROOT / name, copy / name)
    for package in _packages():
        shutil.copytree(
            PROJECT_ROOT / package,
            copy / package,
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=shutil.copyfile,
        )
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(out)],
        cwd=copy,
        env={**os.environ, "SOURCE_DATE_EPOCH": _OLDEST_SECONDS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CloudError(f"moodlake's wheel cannot be built: {done.stderr[-500:]}")
    return next(out.glob("*.whl"))


def _write_zip(path: Path, files: list[Path]) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for file in files:
            entry = ZipInfo(file.name, _OLDEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), ZIP_DEFLATED)


def compare(client: BaseClient, bucket: str, folder: Path) -> Uploaded:
    """What `upload` would do; of what it would put there, the version is `new`.

    Args:
        client: of S3.
        bucket: that of DAGs.
        folder: as `build` left it.

    Raises:
        CloudError: AWS refuses.
    """
    files = dict(_files(folder))
    with translate_errors():
        known = {key: _known(client, bucket, key, path) for key, path in files.items()}
    return Uploaded(
        tuple(key for key, version in known.items() if version is None),
        tuple(_others(client, bucket, files)),
        {name: known[key] or "new" for name, key in _VERSIONS.items()},
    )


def upload(client: BaseClient, bucket: str, folder: Path, dags: bool = True) -> Uploaded:
    """Put what `build` wrote into the bucket, but for what is there already.

    DAGs that `build` wrote no more are taken away; the bucket keeps their versions.

    Args:
        client: of S3.
        bucket: with versions, as MWAA wants it.
        folder: as `build` left it.
        dags: also the DAGs, which count at once; all else counts when MWAA is told its version.

    Raises:
        CloudError: AWS refuses, or the bucket keeps no versions.
    """
    changed: list[str] = []
    versions: dict[str, str] = {}
    for key, path in _files(folder):
        if dags or not key.startswith(f"{DAGS}/"):
            with translate_errors():
                version = _known(client, bucket, key, path)
                if version is None:
                    changed.append(key)
                    version = client.put_object(
                        Bucket=bucket,
                        Key=key,
                        Body=path.read_bytes(),
                        ContentType=_TYPES.get(path.suffix, "application/zip"),
                        Metadata={_DIGEST: _digest(path)},
                    ).get("VersionId", "")
            versions[key] = version
    if not all(versions.values()):
        raise CloudError(f"{bucket} keeps no versions; managed Airflow wants a bucket that does")
    removed = _others(client, bucket, versions) if dags else []
    with translate_errors():
        for key in removed:
            client.delete_object(Bucket=bucket, Key=key)
    return Uploaded(
        tuple(changed), tuple(removed), {name: versions[key] for name, key in _VERSIONS.items()}
    )


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Key and path of each file that `build` wrote."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path.relative_to(folder).as_posix(), path) for path in files]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _others(client: BaseClient, bucket: str, kept: Container[str]) -> list[str]:
    """Keys in the folder of DAGs beside these."""
    with translate_errors():
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{DAGS}/")
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return [key for key in found if key not in kept]


def _known(client: BaseClient, bucket: str, key: str, path: Path) -> str | None:
    """The version of the object where it is this file, else None; "" where there are none."""
    try:
        known = client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return None
    same = known["Metadata"].get(_DIGEST) == _digest(path)
    return known.get("VersionId", "") if same else None


def set_pool(client: BaseClient, environment: str, slots: int) -> None:
    """Give the pool that scoring tasks take one slot for each worker of TorchServe.

    Args:
        client: of MWAA.
        environment: its name; it has to be there.
        slots: from 1 on.

    Raises:
        CloudError: AWS or Airflow refuses.
    """
    with translate_errors():
        try:
            client.invoke_rest_api(
                Name=environment,
                Path=f"/pools/{POOL}",
                Method="PATCH",
                QueryParameters={"update_mask": ["slots"]},
                Body={"slots": slots},
            )
        except client.exceptions.RestApiClientException as error:
            if error.response.get("RestApiStatusCode") != 404:
                raise
            client.invoke_rest_api(
                Name=environment,
                Path="/pools",
                Method="POST",
                Body={"name": POOL, "slots": slots},
            )
