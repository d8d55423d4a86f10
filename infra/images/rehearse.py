"""Does what a Dockerfile says without an engine for containers: in folders, by chroot, as root.

    python -m infra.images.rehearse infra/images/server.Dockerfile BASE WORK [NAME=VALUE ...]

BASE is the root folder of a Debian with the image's Python and pip (debootstrap makes one): it
stands for what FROM names. WORK gets a folder for each stage. NAME=VALUE goes into the environment
of every step, in place of ARG's defaults. At the end runs what CMD says, as the image's user.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.images.steps import Step, copy, sent, steps

_INSIDE = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$@"'


@dataclass
class Stage:
    """What a FROM begins: its root folder, and what was said of those who run in it."""

    root: Path
    environment: dict[str, str]
    folder: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """A path in it, as this machine sees it."""
        return self.root / path.lstrip("/")

    def run(self, command: list[str]) -> None:
        """Run a program in it.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        entered = ["sh", "-c", f'cd {self.folder}; exec "$@"', "sh", *command]
        chroot = [f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i"]
        told = [f"{name}={value}" for name, value in self.environment.items()]
        # Its mounts end with it.
        namespace = ["unshare", "--mount", "--fork", "sh", "-ec", _INSIDE, str(self.root)]
        subprocess.run([*namespace, *chroot, *told, *entered], check=True)


class Rehearsal:
    """The stages of one Dockerfile, as far as its steps were done.

    Args:
        base: see above.
        work: see above.
        given: the environment of every step.
    """

    def __init__(self, base: Path, work: Path, given: Mapping[str, str]) -> None:
        self._base, self._work, self._given = base, work, given
        self._files = sent()
        self._stages: dict[str, Stage] = {}

    @property
    def stage(self) -> Stage:
        """The last one."""
        return list(self._stages.values())[-1]

    def do(self, step: Step) -> None:
        """Do a step."""
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
    """Do all steps, then run what the image runs."""
    rehearsal = Rehearsal(Path(base), Path(work), dict(each.split("=", 1) for each in given))
    for step in steps(Path(dockerfile)):
        print(step.name, step.text, flush=True)
        rehearsal.do(step)
    rehearsal.stage.run(rehearsal.stage.command)


if __name__ == "__main__":
    main(*sys.argv[1:])
