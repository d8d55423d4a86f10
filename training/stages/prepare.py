"""Stage `prepare`: write the chosen data set as the Parquet file that all other stages read."""

from __future__ import annotations

from moodlake.prediction import FaceMode
from training.data_set.preparation import count_faces, prepare
from training.datasets import load_dataset
from training.params import load_params
from training.paths import FACTS_FILE, SAMPLES_FILE
from training.stage import stage


@stage("prepare")
def main() -> None:
    """Run the stage."""
    params = load_params().data
    data = load_dataset(params)
    facts = prepare(data, params, SAMPLES_FILE, FACTS_FILE)
    if params.name in ("folder", "table") and data.faces is not FaceMode.NONE:
        found, sought = count_faces(data.images, params.seed)
        print(
            f"found a face in {found} of {sought} images; with data.faces={data.faces} the model "
            "rejects images without one, with data.faces=none it reads whole images"
        )
    print(f"{facts['name']}: {facts['rows']}, dropped: {facts['dropped']}")


if __name__ == "__main__":
    main()
