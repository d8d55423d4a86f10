"""Stage `calibrate`: fit the calibration on the validation split."""

from __future__ import annotations

import numpy as np

from training.architectures import preprocessing_of
from training.data_set.facts import read_facts
from training.data_set.samples import load_split
from training.evaluation.calibration import Calibration, fit
from training.files import written_whole
from training.learning.network import load_network, predict_logits
from training.metrics import kl_divergence
from training.params import load_params
from training.paths import LOGITS_FILE
from training.stage import stage


@stage("calibrate")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    preprocessing = preprocessing_of(params.model)
    images, target = load_split("valid", preprocessing)
    network = load_network(params, len(facts.space))
    logits = predict_logits(network, images, preprocessing)
    calibration = fit(params.calibrate.method, logits, target)
    calibration.write()
    with written_whole(LOGITS_FILE) as part, part.open("wb") as file:
        np.save(file, logits)
    before = kl_divergence(target, Calibration()(logits))
    after = kl_divergence(target, calibration(logits))
    print(f"{params.calibrate.method}: KL {before:.4f} -> {after:.4f}, {calibration}")


if __name__ == "__main__":
    main()
