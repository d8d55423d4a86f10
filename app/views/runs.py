"""The page Runs: past runs with their counts, cost, drift and report."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from app.backend import settings
from app.cached_queries import with_tables
from app.widgets import select_row, show_report
from app.wording import escape_markdown, reason_line
from moodlake.scoring.reports.run_report import report_uri
from moodlake.scoring.sources import storage
from moodlake.scoring.tables.runs import find_run, newest_runs

_MAX_RUNS = 500
_COLUMNS = {
    "run_id": "run",
    "bucket": "bucket",
    "prefix": "prefix",
    "model_version": "model",
    "objects": "images",
    "scored": "scored",
    "rejected": "rejected",
    "images_per_second": "images/s",
    "cost_per_million": "$ per million images",
    "drifted": "drifted",
    "ended_at": "ended",
    "problem": "error",
}


@with_tables
def page() -> None:
    st.title("Runs")
    runs = newest_runs(settings().runs_table, _MAX_RUNS)
    if not runs:
        st.info("No run has ended yet. Start one with `moodlake run`.")
        return
    frame = pd.DataFrame(runs).reindex(columns=list(_COLUMNS)).rename(columns=_COLUMNS)
    columns = {
        "images/s": st.column_config.NumberColumn(format="%.1f"),
        "$ per million images": st.column_config.NumberColumn(format="%.2f"),
        "ended": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss"),
    }
    description = "Runs, the newest first; select one to see its details"
    place = select_row(frame, "runs", description, columns)
    if place is not None:
        selected = runs[place]
        run = find_run(settings().runs_table, selected["run_id"], selected["started_at"])
        if run:
            _show_run(run)


def _show_run(run: dict[str, Any]) -> None:
    st.subheader(escape_markdown(run["run_id"]))
    if run["problem"]:
        st.error(escape_markdown(run["problem"]))
    if run.get("drifted"):
        st.warning(
            "The results of this run differ from those of earlier runs by more than the configured "
            "limits; see the report."
        )
    metrics = st.columns(4)
    metrics[0].metric("Images", f"{run['objects']:,}")
    metrics[1].metric("Scored", f"{run['scored']:,}")
    metrics[2].metric("Rejected", f"{run['rejected']:,}")
    if rate := run.get("images_per_second"):
        metrics[3].metric("Images per second", f"{rate:.1f}")
    for reason, count in json.loads(run["reasons"] or "{}").items():
        st.markdown(reason_line(reason, count))
    _show_links(run)
    _show_report(run)
    with st.expander("Parameters and model"):
        params, model = (json.loads(run[name] or "{}") for name in ("params", "provenance"))
        st.json({"params": params, "model": model}, expanded=1)


def _show_links(run: dict[str, Any]) -> None:
    left, right = st.columns(2)
    left.page_link(
        st.session_state["pages"]["results"],
        label="Rows of this run",
        query_params={"run": run["run_id"]},
    )
    if (airflow := settings().airflow_url) and run.get("dag_id"):
        right.link_button(
            "This run in Airflow", f"{airflow}/dags/{run['dag_id']}/runs/{run['run_id']}"
        )


def _show_report(run: dict[str, Any]) -> None:
    content = storage.read_bytes(report_uri(settings().results_uri, run["run_id"]))
    if content is None:
        st.caption("This run has no report. Write one with `moodlake report RUN_ID`.")
        return
    show_report(content, f"{run['run_id']}.html", "Report of this run")
