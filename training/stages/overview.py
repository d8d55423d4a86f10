"""Stage `overview`: describe the data set, for the web app to show without computing it."""

from __future__ import annotations

import json

import pandas as pd

from training.data_report.overview import examples, overview
from training.data_set.facts import read_facts
from training.files import write_json, written_whole
from training.paths import (
    FACTS_FILE,
    OVERVIEW_FILE,
    OVERVIEW_FOLDER,
    SAMPLES_FILE,
    VALIDATION_FILE,
)
from training.stage import stage


@stage("overview")
def main() -> None:
    """Run the stage."""
    facts, samples = read_facts(), pd.read_parquet(SAMPLES_FILE)
    content = overview(samples.drop(columns="image"), facts.space)
    content |= {
        "name": facts.name,
        "digest": facts.digest,
        "dropped": json.loads(FACTS_FILE.read_text("utf-8"))["dropped"],
        "expectations": json.loads(VALIDATION_FILE.read_text("utf-8")),
    }
    write_json(OVERVIEW_FILE, content)
    for emotion, strip in examples(samples, facts.space).items():
        with written_whole(OVERVIEW_FOLDER / f"{emotion}.png") as part:
            strip.save(part, "PNG")
    print(f"{facts.name}: {content['rows']}")


if __name__ == "__main__":
    main()
