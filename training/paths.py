"""Paths that the stages read and write, relative to the folder in which DVC runs."""

from __future__ import annotations

from pathlib import Path

from moodlake.settings import PROJECT_ROOT

SAMPLES_FILE = Path("data/prepared/samples.parquet")
FACTS_FILE = Path("data/prepared/facts.json")
VALIDATION_FILE = Path("data/validation/report.json")
OVERVIEW_FOLDER = Path("data/overview")
OVERVIEW_FILE = OVERVIEW_FOLDER / "overview.json"

WEIGHTS_FILE = Path("build/weights.safetensors")
CURVES_FOLDER = Path("build/curves")
CHECKPOINT_FILE = Path("training/runs/checkpoint.pt")
CALIBRATION_FILE = Path("build/calibration.json")
LOGITS_FILE = Path("build/valid_logits.npy")

METRICS_FILE = Path("metrics/metrics.json")
REPORT_FILE = Path("metrics/report.json")
CONFUSION_FILE = Path("metrics/confusion.csv")
RELIABILITY_FILE = Path("build/plots/reliability.csv")
SCATTER_FILE = Path("build/plots/scatter.csv")
FIGURES_FILE = Path("build/figures.png")

ARCHIVE_FILE = Path("build/emotions.mar")
ARCHIVE_WEIGHTS_FILE = ARCHIVE_FILE.with_suffix(".safetensors")
"""The weights for later trainings, beside the archive."""
CARD_FILE = Path("build/MODEL_CARD.md")
HANDLER_FILE = PROJECT_ROOT / "handlers" / "entry_point.py"
"""The handler file that every archive holds."""
