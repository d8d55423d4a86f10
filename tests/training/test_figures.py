"""The figure that is released with a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvclive import Live

from training.evaluation.figures import read_curves


@pytest.mark.parametrize("first", [{}, {"train_loss": 9.0}])
def test_curves_are_in_the_order_of_their_epochs(first: dict[str, float], tmp_path: Path) -> None:
    """Epoch 0 may have no training loss; its file then starts one row later than the others."""
    with Live(str(tmp_path), save_dvc_exp=False, dvcyaml=None) as live:
        for epoch in range(4):
            loss = first if epoch == 0 else {"train_loss": 1 / epoch}
            for name, value in {**loss, "epoch": epoch, "valid_kl": 2.0 - epoch}.items():
                live.log_metric(name, value)
            live.next_step()
    curves = read_curves(tmp_path)
    assert curves.index.tolist() == [0, 1, 2, 3]
    assert curves["valid_kl"].tolist() == [2, 1, 0, -1]
    assert curves["train_loss"].tolist()[1:] == pytest.approx([1, 1 / 2, 1 / 3])
