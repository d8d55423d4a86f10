"""Copy model archives into TorchServe's model store."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from moodlake.settings import PROJECT_ROOT

ENTRY_POINT = PROJECT_ROOT / "handlers" / "entry_point.py"
_MANIFEST = "MAR-INF/MANIFEST.json"
_WHOLE_HANDLER = "emotion_handler.py"
"""Handler file of archives of version 3.2 and before: a copy of the handler of their time."""


def install(archive: Path, target: Path) -> None:
    """Copy an archive so that it runs with the installed handler.

    A copy of an older handler imports modules that have moved: `ENTRY_POINT` replaces it.
    """
    with zipfile.ZipFile(archive) as source:
        if _WHOLE_HANDLER not in source.namelist():
            shutil.copyfile(archive, target)
            return
        manifest = json.loads(source.read(_MANIFEST))
        with zipfile.ZipFile(target, "w") as copy:
            for name in source.namelist():
                if name not in (_MANIFEST, _WHOLE_HANDLER):
                    copy.writestr(name, source.read(name))
            manifest["model"]["handler"] = ENTRY_POINT.name
            copy.writestr(_MANIFEST, json.dumps(manifest))
            copy.write(ENTRY_POINT, ENTRY_POINT.name)
