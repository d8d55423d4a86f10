"""Training: data sets, networks, and the stages of dvc.yaml."""

import moodlake  # noqa: F401  # switches off OpenVINO's telemetry before anything here imports it
