"""Checks of services: the model server, the queues, Airflow and the quotas of AWS."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import boto3
import httpx
from botocore.exceptions import BotoCoreError, ClientError

from infra.doctor.finding import Finding, State
from moodlake.serving.client import ServerError, connect
from moodlake.serving.token import ServerAway
from moodlake.settings import Settings

_HEALTH = "/api/v2/monitor/health"
_MESSAGES = "ApproximateNumberOfMessages"
_MANY = 10_000
_FARGATE_CORES = ("fargate", "L-3032A538")
"""The quota of Fargate On-Demand vCPUs, for all tasks in a region."""
_FEWEST_CORES = 16


def model_server(settings: Settings) -> Finding:
    """Check that the server is ready, accepts our token and reports its model."""
    started = time.perf_counter()
    try:
        with contextlib.closing(connect(settings, interactive=True)) as server:
            model = server.identity
    except ServerError as error:
        if isinstance(error, ServerAway) and settings.server_wait:
            remedy = (
                "if it had scaled to zero, this request starts a server: check again in five "
                "minutes; on AWS, the server is only reachable from within its network"
            )
            detail = f"{error}; runs wait {settings.server_wait:.0f} s for it"
            return Finding(State.DOUBTFUL, detail, remedy)
        return Finding(State.BAD, str(error))
    elapsed = time.perf_counter() - started
    detail = f"{settings.server_url} serves {model.name} {model.version} ({model.digest[:12]})"
    return Finding(State.GOOD, f"{detail}, {elapsed * 1e3:.0f} ms")


def notifications(settings: Settings) -> Finding:
    """Check that the queues are readable, and count pending and dead-letter messages."""
    if not settings.arrivals_queue:
        return Finding(
            State.ABSENT, "no queue of new objects is configured (MOODLAKE_ARRIVALS_QUEUE)"
        )
    try:
        pending = _pending(settings.arrivals_queue)
        dead = _pending(settings.dead_letters) if settings.dead_letters else 0
    except (ClientError, BotoCoreError) as error:
        remedy = "check MOODLAKE_ARRIVALS_QUEUE, MOODLAKE_DEAD_LETTERS and sqs:GetQueueAttributes"
        return Finding(State.BAD, str(error), remedy)
    detail = f"{pending:,} pending notifications"
    if dead:
        detail += f", {dead:,} dead letters"
        remedy = "read their reasons, fix the cause, then run `moodlake cloud replay`"
        return Finding(State.DOUBTFUL, detail, remedy)
    if pending > _MANY:
        remedy = (
            "check that the triggerer runs and that the DAG score_on_arrival is not paused; the "
            "queue may be purged, because scheduled runs list the bucket and find the same images"
        )
        return Finding(State.DOUBTFUL, detail, remedy)
    return Finding(State.GOOD, detail)


def _pending(queue: str) -> int:
    attributes = _client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[_MESSAGES])
    return int(attributes["Attributes"][_MESSAGES])


def airflow(settings: Settings) -> Finding:
    """Check that Airflow's components are healthy."""
    if not settings.airflow_url:
        return Finding(State.ABSENT, "no address is configured (MOODLAKE_AIRFLOW_URL)")
    try:
        answer = httpx.get(settings.airflow_url.rstrip("/") + _HEALTH, timeout=10)
        parts: dict[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return Finding(State.BAD, f"{settings.airflow_url}: {error}", "start its API server")
    states = {name: part.get("status") for name, part in parts.items() if part.get("status")}
    unhealthy = [f"{name}: {state}" for name, state in states.items() if state != "healthy"]
    if unhealthy:
        return Finding(State.BAD, "; ".join(unhealthy), "read the component's log, and restart it")
    return Finding(State.GOOD, f"{settings.airflow_url}: {', '.join(states)}")


def task_quota(settings: Settings) -> Finding:
    """Check how many vCPUs this account may use on Fargate."""
    if os.environ.get("AWS_ENDPOINT_URL"):
        return Finding(State.ABSENT, "only on AWS")
    service, code = _FARGATE_CORES
    try:
        answer = _client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
    except (ClientError, BotoCoreError) as error:
        return Finding(State.ABSENT, f"cannot be read: {error}")
    cores = answer["Quota"]["Value"]
    if cores < _FEWEST_CORES:
        remedy = "to run more servers, request an increase in Service Quotas"
        return Finding(State.DOUBTFUL, f"{cores:.0f} Fargate vCPUs", remedy)
    return Finding(State.GOOD, f"{cores:.0f} Fargate vCPUs")


def _client(service: str) -> Any:
    # boto3 itself only reads AWS_DEFAULT_REGION.
    return boto3.session.Session(region_name=os.environ.get("AWS_REGION")).client(service)
