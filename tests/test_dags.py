"""The DAG files: they import quickly and carry the settings that an operator expects."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moodlake.settings import PROJECT_ROOT

DAGS = sorted((PROJECT_ROOT / "dags").glob("*.py"))

SCHEDULES = {
    "score_images": "@hourly",
    "score_on_arrival": ["moodlake-arrivals"],
    "rescore": None,
    "retrain": None,
    "maintain": "@daily",
}
STANDARD = {"__future__", "collections", "contextlib", "datetime", "typing"}
QUICK = {"moodlake.scoring.options", "moodlake.scoring.run.params", "moodlake.settings"}
"""Modules of the project that import nothing slow."""
SLOW = {"boto3", "deltalake", "numpy", "pandas", "pyarrow", "torch"}

CHECK = """
import sys
sys.path.append({path!r})  # as the DAG processor does
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({path!r})
assert not bag.import_errors, bag.import_errors
for dag in bag.dags.values():
    assert "moodlake" in dag.tags and dag.max_active_runs == 1, dag
    for task in dag.tasks:
        assert task.owner == "moodlake" and task.execution_timeout, task
        assert task.retries >= 1, task
        assert task.pool == ("torchserve" if task.task_id == "score" else "default_pool"), task

def plain(schedule):
    return [asset.name for asset in schedule] if isinstance(schedule, list) else schedule

assert {{name: plain(dag.schedule) for name, dag in bag.dags.items()}} == {schedules!r}
"""


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.name)
def test_dag_files_are_thin(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 80
    imported = {
        name
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    top = {name.split(".")[0] for name in imported - QUICK}
    assert top <= STANDARD | {"airflow", "scoring_steps"}


@pytest.mark.slow
def test_dags_load_with_their_settings(tmp_path: Path) -> None:
    code = CHECK.format(path=str(PROJECT_ROOT / "dags"), schedules=SCHEDULES)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MOODLAKE_ARRIVALS_QUEUE": "http://127.0.0.1:1/queue",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_modules_that_dag_files_import_are_quick() -> None:
    code = f"import sys, {', '.join(sorted(QUICK))}; print(sorted({SLOW} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
