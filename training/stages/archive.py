"""Stage `archive`: pack the calibrated network as a TorchServe archive with a model card."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from training.architectures import preprocessing_of
from training.data_set.facts import read_facts
from training.data_set.samples import load_split
from training.evaluation.calibration import Calibration
from training.files import written_whole
from training.learning.network import load_network
from training.packaging.archive import pack, write_archive
from training.packaging.bundle import stored_weights
from training.packaging.card import write_card
from training.packaging.reference import add_reference
from training.params import load_params
from training.paths import (
    ARCHIVE_FILE,
    ARCHIVE_WEIGHTS_FILE,
    LOGITS_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
)
from training.stage import stage


@stage("archive")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    network = load_network(params, len(facts.space))
    calibration = Calibration.read()
    metrics = json.loads(METRICS_FILE.read_text("utf-8"))
    preprocessing = preprocessing_of(params.model)
    validation = (*load_split("valid", preprocessing), calibration(np.load(LOGITS_FILE)))
    images, _ = load_split("train", preprocessing)
    with tempfile.TemporaryDirectory() as temporary:
        about = (params, facts, calibration, metrics)
        packed = pack(Path(temporary), network, WEIGHTS_FILE, *about, validation, images)
        add_reference(packed.folder)
        write_archive(packed.folder, ARCHIVE_FILE, params.archive)
    with written_whole(ARCHIVE_WEIGHTS_FILE) as part:
        part.write_bytes(stored_weights(WEIGHTS_FILE, params.archive))
    write_card(packed.meta, ARCHIVE_FILE, packed.cost, packed.int8)
    size = ARCHIVE_FILE.stat().st_size / 1e6
    print(f"{ARCHIVE_FILE}: {size:.1f} MB, model digest {packed.meta['digest'][:12]}")
    print(f"as packed, with the released calibration: {packed.cost}")
    if int8 := packed.int8:
        print(f"int8: {int8}: {'used' if int8.bearable else 'not used, it loses too much'}")


if __name__ == "__main__":
    main()
