"""Stage `figures`: draw the plots of `dvc plots` as one picture that is released with the model."""

from __future__ import annotations

import pandas as pd

from training.data_set.facts import read_facts
from training.evaluation.figures import draw, read_curves
from training.files import written_whole
from training.paths import CONFUSION_FILE, FIGURES_FILE, RELIABILITY_FILE, SCATTER_FILE
from training.stage import stage


@stage("figures")
def main() -> None:
    """Run the stage."""
    emotions = read_facts().space.emotions
    cases = pd.read_csv(CONFUSION_FILE)
    confusion = pd.crosstab(cases["actual"], cases["predicted"])
    figure = draw(
        read_curves(),
        confusion.reindex(index=emotions, columns=emotions, fill_value=0),
        pd.read_csv(RELIABILITY_FILE),
        pd.read_csv(SCATTER_FILE),
    )
    with written_whole(FIGURES_FILE) as part:
        figure.savefig(part, format="png", dpi=90)


if __name__ == "__main__":
    main()
