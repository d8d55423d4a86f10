"""Provenance of a training: source files and the digest of its inputs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from training.architectures.own_weights import digest_of, made_from
from training.data_set.facts import Facts
from training.params import Params


def sources_of(params: Params, facts: Facts) -> dict[str, str]:
    """Return the SHA-256 of each file that the network starts or learns from, by its path.

    Prints a warning if one comes from other rows of the same data set.

    Raises:
        WeightsError: a file cannot be read.
    """
    files = [params.model.weights_file, *map(Path, params.train.teachers)]
    sources = {str(file): digest_of(file) for file in files if file}
    for file in sources:
        name, digest = made_from(Path(file)).data
        if name == facts.name and digest != facts.digest:
            print(
                f"train: {file} learned from other rows of {name}; if its split was another, it "
                "may have seen validation rows",
                file=sys.stderr,
            )
    return sources


def run_key(params: Params, data_digest: str, sources: Mapping[str, str]) -> str:
    """Return a digest of all that decides a training: parameters, data, source files and code."""
    training = Path(__file__).parent
    library = training.with_name("moodlake")
    code = [
        *training.rglob("*.py"),
        *library.glob("*.py"),
        *library.joinpath("inference").glob("*.py"),
    ]
    relevant = {
        **params.to_dict(),
        "calibrate": None,
        "archive": None,
        "data": data_digest,
        "sources": sources,
        "code": [digest_of(file) for file in sorted(code)],
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
