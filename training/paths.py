"""Where the stages write their outputs, relative to the folder that DVC runs in."""

from __future__ import annotations

from pathlib import Path

SAMPLES_FILE = Path("data/prepared/samples.parquet")
FACTS_FILE = Path("data/prepared/facts.json")
VALIDATION_FILE = Path("data/validation/report.json")

WEIGHTS_FILE = Path("build/weights.safetensors")
CURVES_FOLDER = Path("build/curves")
CHECKPOINT_FILE = Path("training/runs/checkpoint.pt")
CALIBRATION_FILE = Path("build/calibration.json")
LOGITS_FILE = Path("build/valid_logits.npy")

METRICS_FILE = Path("metrics/metrics.json")
REPORT_FILE = Path("metrics/report.json")
CONFUSION_FILE = Path("metrics/confusion.csv")
PLOTS_FOLDER = Path("build/plots")
FIGURES_FILE = Path("build/figures.png")
