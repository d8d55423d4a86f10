"""Stage `train`: fit a network to the annotators' distributions.

An interrupted run resumes from its last complete epoch.
"""

from __future__ import annotations

import safetensors.torch
from dvclive import Live

from training.architectures import preprocessing_of
from training.architectures.own_weights import Made
from training.data_set.facts import read_facts
from training.data_set.samples import load_split
from training.files import written_whole
from training.learning.batches import Split
from training.learning.teachers import taught
from training.learning.trainer import Trainer
from training.params import load_params
from training.paths import CHECKPOINT_FILE, CURVES_FOLDER, WEIGHTS_FILE
from training.provenance import run_key, sources_of
from training.stage import stage


@stage("train")
def main() -> None:
    """Run the stage."""
    params, facts = load_params(), read_facts()
    preprocessing = preprocessing_of(params.model)
    sources = sources_of(params, facts)
    key = run_key(params, facts.digest, sources)
    train, valid = (Split(*load_split(split, preprocessing)) for split in ("train", "valid"))
    train.distributions = taught(train.distributions, params.train, facts.space)
    trainer = Trainer(params, train, valid, CHECKPOINT_FILE, key, facts.space.emotions)
    network = trainer.run()
    weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    with written_whole(WEIGHTS_FILE) as part:
        made = Made(facts.space.emotions, (facts.name, facts.digest), sources)
        # save_file would make it unreadable for other users.
        part.write_bytes(safetensors.torch.save(weights, made.to_metadata()))
    with Live(str(CURVES_FOLDER), save_dvc_exp=False, dvcyaml=None) as live:
        for curve in trainer.curves:
            for name, value in curve.items():
                live.log_metric(name, value)
            live.next_step()
    CHECKPOINT_FILE.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
