"""Build the files of managed Airflow (MWAA) from the project, and upload them to its bucket.

MWAA unpacks plugins.zip, runs startup.sh and installs requirements.txt on each of its machines.
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
"""The newest Airflow of MWAA, on Python 3.12."""
CONSTRAINTS = Path(__file__).with_name("mwaa_constraints.txt")
"""Pins of the packages that are missing or older in MWAA's image."""
DAGS, REQUIREMENTS, PLUGINS, STARTUP = "dags", "requirements.txt", "plugins.zip", "startup.sh"
UNPACKED = Path("/usr/local/airflow/plugins")
"""The folder into which MWAA unpacks plugins.zip."""
_EXCLUDED = {"retrain.py"}
"""DAGs that need DVC, PyTorch and a checkout, which MWAA lacks."""
_VERSIONS = {
    "RequirementsVersion": REQUIREMENTS,
    "PluginsVersion": PLUGINS,
    "StartupVersion": STARTUP,
}
_STARTUP = r"""#!/bin/sh
# MWAA only allows options of Airflow: export the option moodlake.x as MOODLAKE_X for the tasks.
eval "$(env | sed -n \
    's/^AIRFLOW__MOODLAKE__\([A-Z_]*\)=.*/export MOODLAKE_\1="$AIRFLOW__MOODLAKE__\1"/p')"
"""
_SOURCES = ("pyproject.toml", "README.md", "LICENSE")
"""Files of the wheel besides its packages."""
_TYPES = {".py": "text/x-python", ".sh": "text/x-shellscript", ".txt": "text/plain"}
_DIGEST = "sha256"
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can store."""
_OLDEST_SECONDS = "315532800"
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@dataclass(frozen=True)
class Uploaded:
    """The result of an upload.

    Attributes:
        changed: keys of new or changed objects.
        removed: keys of deleted DAGs.
        versions: versions of the objects that MWAA uses by version, by template parameter:
            RequirementsVersion, PluginsVersion, StartupVersion.
    """

    changed: tuple[str, ...]
    removed: tuple[str, ...]
    versions: dict[str, str]


def build(folder: Path) -> None:
    """Write dags/, requirements.txt, plugins.zip and startup.sh, reproducibly.

    Args:
        folder: where to write them; created if absent.

    Raises:
        CloudError: the wheel cannot be built.
    """
    dags = folder / DAGS
    dags.mkdir(parents=True, exist_ok=True)
    for source in sorted((PROJECT_ROOT / "dags").glob("*.py")):
        if source.name not in _EXCLUDED:
            shutil.copyfile(source, dags / source.name)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _wheel(Path(temporary))
        _write_zip(folder / PLUGINS, [CONSTRAINTS, wheel])
        (folder / REQUIREMENTS).write_text(
            f'--constraint "{UNPACKED / CONSTRAINTS.name}"\n'
            f"moodlake[managed] @ file://{UNPACKED / wheel.name}\n",
            "utf-8",
        )
    (folder / STARTUP).write_text(_STARTUP + _export_code_version(), "utf-8")


def _export_code_version() -> str:
    """Return the startup commands that export the wheel's code version, for the table of runs."""
    variables = {COMMIT_VARIABLE: git_commit(*_SOURCES, *_packages()), LOCK_VARIABLE: dvc_lock()}
    return "".join(f"export {name}={value}\n" for name, value in variables.items() if value)


def _packages() -> list[str]:
    """Return the folders of the wheel's packages."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))
    patterns: list[str] = project["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.removesuffix("*") for pattern in patterns]


def _wheel(folder: Path) -> Path:
    """Build the project's wheel from a copy: a checkout may contain remains of earlier builds."""
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
        raise CloudError(f"building moodlake's wheel failed: {done.stderr[-500:]}")
    return next(out.glob("*.whl"))


def _write_zip(path: Path, files: list[Path]) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for file in files:
            entry = ZipInfo(file.name, _OLDEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), ZIP_DEFLATED)


def compare(client: BaseClient, bucket: str, folder: Path) -> Uploaded:
    """Return what `upload` would change; versions of changed objects are `new`.

    Args:
        client: S3 client.
        bucket: bucket of managed Airflow's files.
        folder: output of `build`.

    Raises:
        CloudError: AWS rejects a request.
    """
    files = dict(_files(folder))
    with translate_errors():
        known = {key: _current_version(client, bucket, key, path) for key, path in files.items()}
    return Uploaded(
        tuple(key for key, version in known.items() if version is None),
        tuple(_stale_dags(client, bucket, files)),
        {name: known[key] or "new" for name, key in _VERSIONS.items()},
    )


def upload(client: BaseClient, bucket: str, folder: Path, dags: bool = True) -> Uploaded:
    """Upload the new and changed files of `build`, and delete DAGs that it did not write.

    Args:
        client: S3 client.
        bucket: bucket of managed Airflow's files, with versioning.
        folder: output of `build`.
        dags: upload DAGs, too. They take effect at once; other files take effect when MWAA is
            deployed with their versions.

    Raises:
        CloudError: AWS rejects a request, or the bucket has no versioning.
    """
    changed: list[str] = []
    versions: dict[str, str] = {}
    for key, path in _files(folder):
        if dags or not key.startswith(f"{DAGS}/"):
            with translate_errors():
                version = _current_version(client, bucket, key, path)
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
        raise CloudError(f"{bucket} has no versioning, which managed Airflow requires; enable it")
    removed = _stale_dags(client, bucket, versions) if dags else []
    with translate_errors():
        for key in removed:
            client.delete_object(Bucket=bucket, Key=key)
    return Uploaded(
        tuple(changed), tuple(removed), {name: versions[key] for name, key in _VERSIONS.items()}
    )


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return key and path of each file that `build` wrote."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path.relative_to(folder).as_posix(), path) for path in files]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stale_dags(client: BaseClient, bucket: str, kept: Container[str]) -> list[str]:
    """Return the other keys in the folder of DAGs."""
    with translate_errors():
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{DAGS}/")
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return [key for key in found if key not in kept]


def _current_version(client: BaseClient, bucket: str, key: str, path: Path) -> str | None:
    """Return the object's version if it equals the file, else None; "" without versioning."""
    try:
        known = client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return None
    same = known["Metadata"].get(_DIGEST) == _digest(path)
    return known.get("VersionId", "") if same else None


def set_pool(client: BaseClient, environment: str, slots: int) -> None:
    """Set the slots of the pool of scoring tasks, one for each worker of TorchServe.

    Args:
        client: MWAA client.
        environment: name of the existing environment.
        slots: at least 1.

    Raises:
        CloudError: AWS or Airflow rejects a request.
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
