"""Airflow's trigger forms, in a browser: every DAG can be triggered by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from infra.browser import CHROMIUM, MISSING, chromium
from infra.local.airflow import USER
from infra.stack import Stack
from moodlake.scoring.options import Dataclass, options_of
from moodlake.scoring.run.params import RunParams, UpkeepParams

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

_TIMEOUT_MS = 180_000


def defaults(kind: type[Dataclass]) -> dict[str, Any]:
    return {option.name: option.default for option in options_of(kind)}


FORMS = {
    "score_images": defaults(RunParams),
    "rescore": defaults(RunParams) | {"against": None},
    "maintain": defaults(UpkeepParams),
    "retrain": {},
}
"""DAG -> conf of a run whose form is submitted unchanged."""


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[httpx.Client]:
    """A client of Airflow's REST API."""
    with httpx.Client(base_url=stack.airflow.url, timeout=180) as client:
        login = {"username": USER, "password": stack.airflow.password}
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Page]:
    """A browser tab that is logged in to Airflow."""
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 1400})
        tab.set_default_timeout(_TIMEOUT_MS)
        tab.goto(stack.airflow.url)
        tab.locator("input[name=username]").fill(USER)
        tab.locator("input[name=password]").fill(stack.airflow.password)
        tab.get_by_role("button", name="Sign in").click()
        tab.wait_for_url(lambda url: "/auth/" not in url)
        yield tab


@contextmanager
def paused(api: httpx.Client, dag_id: str) -> Iterator[None]:
    """Pause a DAG, so that its runs stay queued; delete the new runs at the end."""
    before = manual_runs(api, dag_id)
    api.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": True}).raise_for_status()
    try:
        yield
    finally:
        for run_id in manual_runs(api, dag_id).keys() - before.keys():
            api.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}").raise_for_status()
        api.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()


def manual_runs(api: httpx.Client, dag_id: str) -> dict[str, dict[str, Any]]:
    query = {"run_type": "manual", "limit": 100, "order_by": "-run_after"}
    answer = api.get(f"/api/v2/dags/{dag_id}/dagRuns", params=query).raise_for_status().json()
    return {run["dag_run_id"]: run for run in answer["dag_runs"]}


def open_form(page: Page, url: str, dag_id: str) -> Locator:
    """Open the trigger form of a paused DAG; return its button."""
    page.goto(f"{url}/dags/{dag_id}")
    page.get_by_test_id("trigger-dag-button").first.click()
    item = page.get_by_role("menuitem", name="Trigger", exact=True)
    submit = page.get_by_test_id("trigger-dag-submit")
    expect(item.or_(submit)).to_be_visible(timeout=_TIMEOUT_MS)
    if item.is_visible():
        item.click()
    unpause = page.get_by_text(f"Unpause {dag_id} on trigger")
    unpause.click()
    box = page.get_by_role("checkbox", name=f"Unpause {dag_id} on trigger")
    expect(box).not_to_be_checked(timeout=_TIMEOUT_MS)
    return submit


def test_every_dag_has_a_form(stack: Stack) -> None:
    assert sorted(stack.airflow.client.dags()) == sorted(FORMS)


@pytest.mark.parametrize("dag_id", FORMS)
def test_a_form_can_be_submitted_unchanged(
    stack: Stack, api: httpx.Client, page: Page, dag_id: str
) -> None:
    before = manual_runs(api, dag_id)
    with paused(api, dag_id):
        submit = open_form(page, stack.airflow.url, dag_id)
        expect(submit).to_be_enabled(timeout=_TIMEOUT_MS)
        submit.click()
        expect(submit).to_be_hidden(timeout=_TIMEOUT_MS)
        (run,) = (run for id, run in manual_runs(api, dag_id).items() if id not in before)
        assert run["conf"] == FORMS[dag_id]
        assert run["state"] == "queued"
