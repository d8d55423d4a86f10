"""Stage `validate`: check the prepared samples before anything learns from them."""

from __future__ import annotations

import sys

import pandas as pd

from training.data_report.expectations import check
from training.data_set.facts import read_facts
from training.files import write_json
from training.paths import SAMPLES_FILE, VALIDATION_FILE


def main() -> None:
    """Run the stage; exits with the failed expectations and their rows."""
    outcomes = check(pd.read_parquet(SAMPLES_FILE), read_facts().space)
    write_json(VALIDATION_FILE, outcomes)
    failed = [outcome for outcome in outcomes if not outcome["success"]]
    for outcome in failed:
        examples = (
            f": {outcome['rows']} rows, {', '.join(outcome['ids'])}" if outcome["ids"] else ""
        )
        print(f"validate: failed: {outcome['expectation']}{examples}", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(f"{len(outcomes)} expectations met")


if __name__ == "__main__":
    main()
