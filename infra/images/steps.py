"""Parse Dockerfiles, and copy what their COPY steps copy from this checkout."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

from moodlake.settings import PROJECT_ROOT

_OPTION = re.compile(r"--([a-z]+)=(\S+)\s+")


@dataclass(frozen=True)
class Step:
    """An instruction of a Dockerfile.

    Attributes:
        name: FROM, RUN, ...
        text: arguments without options.
        options: options of the form --name=value.
    """

    name: str
    text: str
    options: dict[str, str]

    @property
    def words(self) -> list[str]:
        """The text, split like a shell command."""
        return shlex.split(self.text)


def steps(dockerfile: Path) -> list[Step]:
    """Return all instructions of a Dockerfile, without comments."""
    return [
        Step(
            each["instruction"],
            _OPTION.sub("", each["value"]),
            dict(_OPTION.findall(each["value"])),
        )
        for each in DockerfileParser(str(dockerfile)).structure
        if each["instruction"] != "COMMENT"
    ]


def last_stage(dockerfile: Path) -> list[Step]:
    """Return the instructions of the image: all from the last FROM on."""
    found = steps(dockerfile)
    start = max(index for index, step in enumerate(found) if step.name == "FROM")
    return found[start:]


def build_context() -> set[str]:
    """Return the files of the build context: those that .dockerignore does not exclude."""
    patterns = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in patterns if line and not line.startswith("#")]
    found = exclude_paths(str(PROJECT_ROOT), patterns)
    return {name for name in found if (PROJECT_ROOT / name).is_file()}


def copy(step: Step, folder: Path, files: Collection[str]) -> None:
    """Execute a COPY step from this checkout.

    Args:
        step: the COPY step.
        folder: folder that its target is relative to.
        files: the build context, see `build_context`.

    Raises:
        FileNotFoundError: a source is missing from the build context.
    """
    *sources, last = step.words
    target = folder / last
    for source in sources:
        inside = {name for name in files if source in (".", name) or name.startswith(f"{source}/")}
        if not inside:
            raise FileNotFoundError(f"{source} does not exist, or .dockerignore excludes it")
        for name in inside:
            place = target / Path(name).relative_to(source)
            if name == source and last.endswith("/"):
                place = target / Path(name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_ROOT / name, place)
