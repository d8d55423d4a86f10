"""Write the model card (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019).

All numbers come from the pipeline's report.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.architectures import origin
from training.files import written_whole
from training.packaging.bundle import MOST_ACCURACY_LOST, MOST_KL_GAINED, Cost
from training.params import ModelParams
from training.paths import CARD_FILE, FACTS_FILE, REPORT_FILE

_TEMPLATE = Path(__file__).with_name("card.md.j2")
_WEAK_RECALL = 0.5

MEASURES = {
    "accuracy": "majority accuracy",
    "any_leader_accuracy": "any-leader accuracy (ties count)",
    "top2_accuracy": "top-2 accuracy",
    "top3_accuracy": "top-3 accuracy",
    "annotator_accuracy": "agreement with one annotator",
    "macro_f1": "macro F1",
    "kl": "KL(votes \\|\\| model), nats",
    "jensen_shannon": "Jensen-Shannon, nats",
    "chebyshev": "Chebyshev",
    "clark": "Clark",
    "canberra": "Canberra",
    "cosine": "cosine",
    "intersection": "intersection",
    "brier": "Brier score",
    "mean_pearson": "mean Pearson",
    "annotator_calibration_error": "calibration error against the annotators",
    "calibration_error": "calibration error against the majority",
}
"""Names of the metrics in the card, in its order."""
_TOP = {"top2_accuracy": 2, "top3_accuracy": 3}
"""Number of emotions from which a top-k accuracy is always 1."""


def render_card(
    meta: dict[str, Any],
    facts: dict[str, Any],
    report: dict[str, Any],
    *,
    megabytes: float,
    packed: Cost,
    int8: Cost | None,
) -> str:
    """Return the card as Markdown.

    Args:
        meta: model.json of the bundle.
        facts: content of the facts file of `prepare`.
        report: content of the report of `evaluate`.
        megabytes: size of the archive.
        packed: cost of the released bundle.
        int8: cost of the 8-bit bundle, if there was one.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    weak = [
        (emotion, numbers)
        for emotion, numbers in report["by_emotion"].items()
        if numbers["recall"] < _WEAK_RECALL
    ]
    params = meta["provenance"]["params"]
    text = environment.get_template(_TEMPLATE.name).render(
        meta=meta,
        params=params,
        origin=origin(ModelParams(**params["model"])),
        recipe=params["train"],
        facts=facts,
        report=report,
        measures={
            name: words
            for name, words in MEASURES.items()
            if _TOP.get(name, 0) < len(meta["label_space"]["emotions"])
        },
        weak=weak,
        most_accuracy_lost=MOST_ACCURACY_LOST,
        most_kl_gained=MOST_KL_GAINED,
        megabytes=megabytes,
        packed=packed,
        int8=int8,
    )
    return text.rstrip() + "\n"


def write_card(meta: dict[str, Any], archive: Path, packed: Cost, int8: Cost | None) -> None:
    """Write CARD_FILE from the outputs of earlier stages."""
    facts, report = (json.loads(path.read_text("utf-8")) for path in (FACTS_FILE, REPORT_FILE))
    megabytes = archive.stat().st_size / 1e6
    card = render_card(meta, facts, report, megabytes=megabytes, packed=packed, int8=int8)
    with written_whole(CARD_FILE) as part:
        part.write_text(card, "utf-8")
