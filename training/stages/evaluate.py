"""Stage `evaluate`: measure the calibrated network on the validation split, beside baselines.

Writes a short metrics.json for `dvc metrics diff`, a report with intervals, emotions and slices,
and the tables that `dvc plots` draws.
"""

from __future__ import annotations

import numpy as np

from training.data_set.facts import read_facts
from training.data_set.samples import load_raw_votes, load_slices, load_targets
from training.evaluation.calibration import Calibration, cross_fitted
from training.evaluation.report import HEADLINES, build_report, constant_predictors, write_plots
from training.files import write_json
from training.params import load_params
from training.paths import LOGITS_FILE, METRICS_FILE, REPORT_FILE
from training.stage import stage


@stage("evaluate")
def main() -> None:
    """Run the stage."""
    params, space = load_params(), read_facts().space
    target, votes = load_targets("valid")
    prior = load_targets("train")[0].mean(axis=0)
    logits = np.load(LOGITS_FILE)
    predicted = cross_fitted(params.calibrate.method, logits, target)
    report = build_report(
        target,
        predicted,
        space,
        uncalibrated=Calibration()(logits),
        baselines=constant_predictors(prior, len(target)),
        votes=votes,
        raw_votes=load_raw_votes("valid"),
        slices=load_slices("valid"),
    )
    write_json(REPORT_FILE, report)
    write_json(METRICS_FILE, {name: report["metrics"][name] for name in HEADLINES})
    write_plots(target, predicted, space)
    if not report["enough_rows"]:
        print(f"only {len(target)} validation images: these numbers are unreliable")
    for name in HEADLINES:
        low, high = report["intervals"][name]
        beside = ", ".join(
            f"{key} {values[name]:.4f}" for key, values in report["baselines"].items()
        )
        print(f"{name} {report['metrics'][name]:.4f} [{low:.4f}, {high:.4f}] ({beside})")
    if clear := report["where_most_agree"]:
        print(f"where most agree, {clear['rows']} rows: accuracy {clear['accuracy']:.4f}")
    for name, value in report["on_raw_votes"].items():
        if name in HEADLINES:
            print(f"with outlier votes left in, {name}: {value:.4f}")
    for name, value in report["people"].items():
        print(f"people, {name}: {value:.4f}")


if __name__ == "__main__":
    main()
