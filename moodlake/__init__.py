"""moodlake: from images in a bucket to a table of emotion distributions.

The library. It imports neither Airflow nor TorchServe nor DVC; they call it.
"""

import sys

# OpenVINO and NNCF report every import to Intel, unless this module is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"
