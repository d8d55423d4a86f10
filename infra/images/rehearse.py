"""Build and run a Dockerfile without a container engine: in folders, with chroot, as root.

    python -m infra.images.rehearse infra/images/server.Dockerfile BASE WORK [NAME=VALUE ...]

BASE is the root folder of a Debian with the image's Python and pip, such as debootstrap creates. It
replaces the images of FROM. WORK receives a folder per stage. NAME=VALUE replaces a default of ARG,
and is set in the environment of every step. Finally, CMD runs as the image's user.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.images.steps import Step, build_context, copy, steps

_INSIDE = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$@"'


@dataclass
class Stage:
    """A build stage: its root folder, and the settings of its processes."""

    root: Path
    environment: dict[str, str]
    folder: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Return the path on this machine of a path in the stage."""
        return self.root / path.lstrip("/")

    def run(self, command: list[str]) -> None:
        """Run a program in the stage.

        Raises:
            subprocess.CalledProcessError: the program failed.
        """
        entered = ["sh", "-c", f'cd {self.folder}; exec "$@"', "sh", *command]
        chroot = [f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i"]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        # The mounts end with the namespace.
        namespace = ["unshare", "--mount", "--fork", "sh", "-ec", _INSIDE, str(self.root)]
        subprocess.run([*namespace, *chroot, *variables, *entered], check=True)


class Rehearsal:
    """The stages of a Dockerfile, as far as its steps were executed.

    Args:
        base: see above.
        work: see above.
        given: environment of every step.
    """

    def __init__(self, base: Path, work: Path, given: Mapping[str, str]) -> None:
        self._base, self._work, self._given = base, work, given
        self._files = build_context()
        self._stages: dict[str, Stage] = {}

    @property
    def stage(self) -> Stage:
        """The last stage."""
        return list(self._stages.values())[-1]

    def execute(self, step: Step) -> None:
        """Execute a step."""
        if step.name == "FROM":
            name = step.words[2] if len(step.words) > 2 else "image"
            root = self._work / name
            subprocess.run(["cp", "-a", str(self._base), str(root)], check=True)
            path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
            self._stages[name] = Stage(root, {"PATH": path, **self._given})
            return
        stage = self.stage
        if step.name == "ARG":
            name, _, default = step.text.partition("=")
            stage.environment.setdefault(name, default)
        elif step.name == "ENV":
            for word in step.words:
                name, _, value = word.partition("=")
                stage.environment[name] = string.Template(value).substitute(stage.environment)
        elif step.name == "WORKDIR":
            stage.folder = step.text
            stage.place(step.text).mkdir(parents=True, exist_ok=True)
        elif step.name == "USER":
            stage.user = step.text
        elif step.name == "COPY":
            self._copy(step)
        elif step.name == "RUN":
            stage.run(["sh", "-c", step.text])
        elif step.name == "CMD":
            stage.command = json.loads(step.text)

    def _copy(self, step: Step) -> None:
        stage = self.stage
        if origin := step.options.get("from"):
            source, target = step.words
            place = stage.place(target)
            subprocess.run(["cp", "-a", self._stages[origin].place(source), place], check=True)
            return
        copy(step, stage.place(stage.folder), self._files)
        if owner := step.options.get("chown"):
            subprocess.run(["chown", "-R", owner, stage.place(stage.folder)], check=True)


def main(dockerfile: str, base: str, work: str, *given: str) -> None:
    """Execute all steps, then the image's command."""
    rehearsal = Rehearsal(Path(base), Path(work), dict(each.split("=", 1) for each in given))
    for step in steps(Path(dockerfile)):
        print(step.name, step.text, flush=True)
        rehearsal.execute(step)
    rehearsal.stage.run(rehearsal.stage.command)


if __name__ == "__main__":
    main(*sys.argv[1:])
