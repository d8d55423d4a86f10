"""The Dockerfiles follow rules, and copy all files that their commands need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from infra.images.steps import build_context, copy, last_stage, steps
from infra.local.service import BIN
from moodlake.settings import PROJECT_ROOT

IMAGES = sorted((PROJECT_ROOT / "infra" / "images").glob("*.Dockerfile"))
PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRA = {"server": "serve", "airflow": "schedule", "training": "train", "page": "page"}
# Modules that each command imports late.
NEEDED = {
    "server": "import infra.local.server, moodlake.cli, moodlake.serving.token, handlers.metrics\n"
    "from infra.local import gateway, torchserve\n"
    "from moodlake.settings import RELEASED_ARCHIVE\n"
    "files = (torchserve.SHARED_CONFIG, torchserve.LOGGING, torchserve.SHARED_METRICS)\n"
    "assert all(path.exists() for path in (*files, RELEASED_ARCHIVE))\n"
    "[gateway._TEMPLATES.get_template(f'{name}.conf.j2') for name in ('edge', 'gate')]",
    "airflow": "import sys, importlib; sys.path.insert(0, 'dags')\n"
    "names = [path.stem for path in __import__('pathlib').Path('dags').glob('*.py')]\n"
    "assert 'score_images' in names\n"
    "[importlib.import_module(name) for name in names]\n"
    "import moodlake.cli; from moodlake.scoring import pipeline\n"
    "from moodlake.scoring.run import policy\n"
    "assert policy.POLICY_FILE.exists()",
    "training": "import moodlake.cli, training.tools.retrain, "
    "training.stages.prepare, training.stages.archive",
    "page": "import moodlake.cli, app.main, infra.local.web_app",
}
# The tests' environment can import this checkout, too.
ELSEWHERE = """
import os, sys
ours = {"app", "dags", "handlers", "infra", "moodlake", "training"}
found = [each for name, each in sys.modules.items() if name.split(".")[0] in ours]
print([each.__file__ for each in found if not each.__file__.startswith(os.getcwd() + "/")])
"""


@pytest.fixture(params=IMAGES, ids=lambda path: path.stem)
def image(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_image_is_tested() -> None:
    assert {path.stem for path in IMAGES} == EXTRA.keys() == NEEDED.keys()


def test_hadolint_finds_nothing(image: Path) -> None:
    found = subprocess.run(
        [BIN / "hadolint", "--no-color", "--disable-ignore-pragma", image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_images_are_pinned_to_one_python_that_the_project_promises() -> None:
    bases = {step.words[0] for path in IMAGES for step in steps(path) if step.name == "FROM"}
    assert len(bases) == 1
    version = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-bookworm", bases.pop())
    assert version
    assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_packages_are_an_extra_of_the_project_as_pinned(image: Path) -> None:
    installs = [step.text for step in steps(image) if "install" in step.text and "pip" in step.text]
    assert len(installs) == 1
    words = re.sub(r"--extra-index-url \S+", "", installs[0]).split()
    assert words[-4:] == ["-c", "constraints.txt", "-e", f"'.[{EXTRA[image.stem]}]'"]
    assert EXTRA[image.stem] in PROJECT["optional-dependencies"]


def test_the_last_stage_installs_nothing_and_runs_unprivileged(image: Path) -> None:
    stage = last_stage(image)
    assert sum(step.name == "FROM" for step in steps(image)) == 2
    assert not any(re.search(r"\b(pip|apt)", step.text) for step in stage if step.name == "RUN")
    assert [step.text for step in stage if step.name == "USER"] == ["1000:1000"]


def test_the_command_exists(image: Path) -> None:
    command = json.loads(last_stage(image)[-1].text)
    helped = subprocess.run(
        [BIN / command[0], command[1], "--help"], capture_output=True, check=False
    )
    assert helped.returncode == 0


def test_the_server_and_the_page_have_health_checks() -> None:
    for name in ("server", "page"):
        stage = last_stage(PROJECT_ROOT / "infra" / "images" / f"{name}.Dockerfile")
        (check,) = (step for step in stage if step.name == "HEALTHCHECK")
        (port,) = (step.text for step in stage if step.name == "EXPOSE")
        assert f"http://127.0.0.1:{port}/" in check.text


def test_copied_files_are_enough(image: Path, tmp_path: Path) -> None:
    """The modules of the image can be imported without the rest of this checkout."""
    folder = copied(image, tmp_path / "code")
    code = f"{NEEDED[image.stem]}\n{ELSEWHERE}"
    environment = {**os.environ, "PYTHONPATH": str(folder), "AIRFLOW_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def copied(image: Path, folder: Path) -> Path:
    """Create a folder with the files that the image copies from this checkout."""
    files = build_context()
    for step in last_stage(image):
        if step.name == "COPY" and "from" not in step.options:
            copy(step, folder, files)
    return folder


def test_training_runs_its_stages_without_git(tmp_path: Path) -> None:
    image = PROJECT_ROOT / "infra" / "images" / "training.Dockerfile"
    folder = copied(image, tmp_path)
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    (configure,) = (step for step in last_stage(image) if step.text.startswith("dvc config"))
    for command in (configure.words, ["dvc", "repro", "prepare"]):
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list((folder / "data" / "prepared").iterdir())


def test_the_build_context_contains_no_secrets_and_no_generated_files() -> None:
    places = [PROJECT_ROOT / "infra" / name for name in (".env", "key_file.json")]
    absent = [path for path in places if not path.exists()]
    for path in absent:
        path.write_text("secret", "utf-8")
    try:
        names = build_context()
    finally:
        for path in absent:
            path.unlink()
    assert "infra/local/server.py" in names
    assert not {str(path.relative_to(PROJECT_ROOT)) for path in places} & names
    assert not any("__pycache__" in name or name.startswith((".git/", ".venv")) for name in names)
