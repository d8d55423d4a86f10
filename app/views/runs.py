"""Runs: what was scored when, how it went, and whether it differs from before."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from app.choose import choose_row, show_report
from app.installation import settings
from app.tables import with_tables
from app.words import plain, told_reason
from moodlake.scoring.reports.run_report import report_uri
from moodlake.scoring.sources import storage
from moodlake.scoring.tables.runs import find_run, newest_runs

_SHOWN = 500
_COLUMNS = {
    "run_id": "run",
    "bucket": "bucket",
    "prefix": "prefix",
    "model_version": "model",
    "objects": "images",
    "scored": "scored",
    "rejected": "rejected",
    "images_per_second": "images/s",
    "cost_per_million": "$ a million",
    "drifted": "drifted",
    "ended_at": "ended",
    "problem": "problem",
}


@with_tables
def page() -> None:
    st.title("Runs")
    runs = newest_runs(settings().runs_table, _SHOWN)
    if not runs:
        st.info("No run has ended yet: `moodlake run` starts one.")
        return
    frame = pd.DataFrame(runs).reindex(columns=list(_COLUMNS)).rename(columns=_COLUMNS)
    shown = {
        "images/s": st.column_config.NumberColumn(format="%.1f"),
        "$ a million": st.column_config.NumberColumn(format="%.2f"),
        "ended": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss"),
    }
    words = "Runs, the newest first; choose one to see all of it"
    place = choose_row(frame, "runs", words, shown)
    if place is not None:
        chosen = runs[place]
        run = find_run(settings().runs_table, chosen["run_id"], chosen["started_at"])
        if run:
            _show(run)


def _show(run: dict[str, Any]) -> None:
    st.subheader(plain(run["run_id"]))
    if run["problem"]:
        st.error(plain(run["problem"]))
    if run.get("drifted"):
        st.warning("What it read differs more from before than params.yaml allows: see the report.")
    facts = st.columns(4)
    facts[0].metric("Images", f"{run['objects']:,}")
    facts[1].metric("Scored", f"{run['scored']:,}")
    facts[2].metric("Rejected", f"{run['rejected']:,}")
    if rate := run.get("images_per_second"):
        facts[3].metric("Images a second", f"{rate:.1f}")
    for reason, count in json.loads(run["reasons"] or "{}").items():
        st.markdown(told_reason(reason, count))
    _links(run)
    _report(run)
    with st.expander("What it was asked, and which model answered"):
        made = json.loads(run["provenance"] or "{}")
        st.json({"params": json.loads(run["params"] or "{}"), "model": made}, expanded=1)


def _links(run: dict[str, Any]) -> None:
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


def _report(run: dict[str, Any]) -> None:
    """The run's own page."""
    content = storage.read_bytes(report_uri(settings().results_uri, run["run_id"]))
    if content is None:
        st.caption("This run has no report; `moodlake report` makes one.")
        return
    show_report(content, f"{run['run_id']}.html", "The report of this run")
