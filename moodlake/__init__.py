"""moodlake: from images in a bucket to a table of emotion distributions.

The library. It imports neither Airflow nor TorchServe nor DVC; those call it.
"""

import sys

# OpenVINO and NNCF tell their maker of every import, unless their messenger is not there.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"
