from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from moodlake.emotions import LabelSpace, label_space
from moodlake.prediction import Prediction
from moodlake.reasons import Reason
from moodlake.scoring.reports.diff import NO_ROW, DiffError, compare
from moodlake.scoring.reports.diff_report import render_diff
from moodlake.scoring.tables.results import ResultsTable
from moodlake.scoring.tables.schema import to_table
from tests.images_made import jpeg
from tests.scoring.rows import SPACE, row, table

OLD, NEW = "a" * 64, "b" * 64
OUTCOMES = ("scored", "empty", "vanished", NO_ROW)


def commit(uri: Path, rows: list[dict[str, object]], space: LabelSpace = SPACE) -> DeltaTable:
    ResultsTable(str(uri)).commit(to_table(rows, space), [])
    return DeltaTable(str(uri))


def outcome(key: str, digest: str, what: str, seed: int) -> dict[str, object]:
    if what != "scored":
        return row(key, digest=digest, reason=Reason(what))
    probabilities = np.random.default_rng(seed).dirichlet(np.full(8, 0.3))
    prediction = Prediction.scored(probabilities, SPACE, width=8, height=8, format="PNG")
    return row(key, digest=digest, prediction=prediction)


# Each example writes a Delta table.
@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)), max_size=40),
    st.integers(0, 1000),
)
def test_the_sums_are_those_of_a_plain_computation(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[tuple[str, str]], seed: int
) -> None:
    outcomes = [("scored", "scored"), *outcomes]
    rows = [
        outcome(f"{number:03d}", digest, what, seed + 2 * number + (digest == NEW))
        for number, pair in enumerate(outcomes)
        for digest, what in zip((OLD, NEW), pair, strict=True)
        if what != NO_ROW
    ]
    found = compare(commit(tmp_path_factory.mktemp("lake"), rows), OLD, NEW, most_changed=5)

    frame = table(*rows).to_pandas()
    old, new = (frame[frame["model_digest"] == digest].set_index("key") for digest in (OLD, NEW))
    both = [f"{number:03d}" for number, pair in enumerate(outcomes) if pair == ("scored",) * 2]
    old, new = old.loc[both], new.loc[both]
    emotions = list(SPACE.emotions)
    before, after = old[emotions].to_numpy(float), new[emotions].to_numpy(float)
    distances = pd.Series(jensenshannon(before, after, base=2, axis=1), index=both)
    changes = found.changes
    assert changes.pairs == len(both)
    assert changes.changed == pytest.approx((old["dominant"] != new["dominant"]).mean())
    assert changes.mean_distance == pytest.approx(distances.mean(), abs=1e-5)
    assert changes.shift == pytest.approx((after - before).mean(axis=0), abs=1e-5)
    for share, distance in changes.quantiles.items():
        exact = distances.quantile(share, interpolation="inverted_cdf")
        assert exact - 1e-5 <= distance <= exact + 1.1e-4
    crossed = pd.crosstab(old["dominant"], new["dominant"])
    crossed = crossed.reindex(index=emotions, columns=emotions, fill_value=0)
    assert changes.transitions.tolist() == crossed.to_numpy().tolist()
    top = distances.sort_values(ascending=False)[:5]
    assert [image.key for image in changes.most_changed] == list(top.index)
    assert [image.distance for image in changes.most_changed] == pytest.approx(list(top), abs=1e-5)
    for seen, (one, other) in ((found.only_old, (0, 1)), (found.only_new, (1, 0))):
        left = [pair[other] for pair in outcomes if pair[one] == "scored" != pair[other]]
        assert seen == pd.Series(left, dtype=str).value_counts().to_dict()


def test_models_over_different_spaces_are_compared_over_what_they_share(tmp_path: Path) -> None:
    other = label_space("mood3")
    given = np.array([0.1, 0.4, 0.0, 0.2, 0.2, 0.1, 0, 0])
    one = Prediction.scored(given, SPACE, width=8, height=8, format="PNG")
    two = Prediction.scored(np.array([0.5, 0.25, 0.25]), other, width=8, height=8, format="PNG")
    commit(tmp_path, [row("a", digest=OLD, prediction=one)])
    rows = [{**row("a", digest=NEW), **dict.fromkeys(SPACE.emotions), **two.distribution}]
    found = compare(commit(tmp_path, rows, other), OLD, NEW)
    assert found.emotions == other.emotions
    assert found.coverage == (pytest.approx(0.8), pytest.approx(1))
    assert found.changes.mean_distance == pytest.approx(0, abs=1e-3)
    assert "have different emotions" in render_diff(found)


def test_models_without_common_emotions_are_refused(tmp_path: Path) -> None:
    other = LabelSpace("colours", ("red", "green"))
    commit(tmp_path, [row("a", digest=OLD)])
    rows = [{**row("a", digest=NEW), "label_space": "colours", "red": 0.5, "green": 0.5}]
    with pytest.raises(DiffError, match="fewer than two emotions"):
        compare(commit(tmp_path, rows, other), OLD, NEW)


def test_models_without_common_images_are_refused(tmp_path: Path) -> None:
    lake = commit(tmp_path, [row("a", digest=OLD), row("b", digest=NEW)])
    with pytest.raises(DiffError, match="no scored image in common"):
        compare(lake)


def test_only_what_was_asked_for_is_compared(tmp_path: Path) -> None:
    rows = [row(key, digest=digest) for key in ("in/a", "in/b", "out") for digest in (OLD, NEW)]
    lake = commit(tmp_path, rows)
    assert compare(lake, prefix="in/", bucket="bucket").changes.pairs == 2
    with pytest.raises(DiffError, match="needs two models; models with rows here: none"):
        compare(lake, bucket="another")


def test_a_model_is_named_by_its_version_or_digest(tmp_path: Path) -> None:
    lake = commit(tmp_path, [row("a", digest=digest) for digest in (OLD, NEW, "c" * 64)])
    found = compare(lake, "aaa", "b")
    assert (found.old.digest, found.new.digest) == (OLD, NEW)
    assert compare(lake).new.digest == "c" * 64
    assert compare(lake, "c").new.digest == NEW
    with pytest.raises(DiffError, match="more than one model"):
        compare(lake, "1.0")
    with pytest.raises(DiffError, match=r"'9\.9' matches no model in this table"):
        compare(lake, "9.9")


def test_the_report_holds_pixels_only_where_it_may(tmp_path: Path) -> None:
    rows = [outcome("<b>.jpg", digest, "scored", ord(digest[0])) for digest in (OLD, NEW)]
    rows += [row("gone", digest=OLD), row("gone", digest=NEW, reason=Reason.VANISHED)]
    found = compare(commit(tmp_path, rows), OLD, NEW)
    page = render_diff(found)
    assert "&lt;b&gt;.jpg" in page
    assert Reason.VANISHED.explanation in page
    assert "data:image" not in page
    assert "http" not in page
    assert "data:image/jpeg" in render_diff(found, read_image=lambda image: jpeg())
