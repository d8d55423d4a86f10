"""Checks of what is called: the model server, the queues, Airflow, and AWS' quotas."""

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
_WAITING = "ApproximateNumberOfMessages"
_MANY = 10_000
_FARGATE_CORES = ("fargate", "L-3032A538")
"""The quota of cores of Fargate on demand, all tasks of a region together."""
_FEWEST_CORES = 16


def model_server(settings: Settings) -> Finding:
    """Whether it is ready, takes our token, and tells its model."""
    started = time.perf_counter()
    try:
        with contextlib.closing(connect(settings, interactive=True)) as server:
            model = server.identity
    except ServerError as error:
        if isinstance(error, ServerAway) and settings.server_wait:
            remedy = (
                "one is being started, if there was none: ask again in five minutes; one of AWS is "
                "reached from within its network only"
            )
            told = f"{error}; runs wait {settings.server_wait:.0f} s for it"
            return Finding(State.DOUBTFUL, told, remedy)
        return Finding(State.BAD, str(error))
    waited = time.perf_counter() - started
    told = f"{settings.server_url} serves {model.name} {model.version} ({model.digest[:12]})"
    return Finding(State.GOOD, f"{told}, {waited * 1e3:.0f} ms")


def notifications(settings: Settings) -> Finding:
    """Whether the queues can be asked, how much waits there, and what could not be used."""
    if not settings.arrivals_queue:
        return Finding(State.ABSENT, "no queue is told of new objects (MOODLAKE_ARRIVALS_QUEUE)")
    try:
        waiting = _waiting(settings.arrivals_queue)
        aside = _waiting(settings.dead_letters) if settings.dead_letters else 0
    except (ClientError, BotoCoreError) as error:
        mend = "check MOODLAKE_ARRIVALS_QUEUE, MOODLAKE_DEAD_LETTERS and sqs:GetQueueAttributes"
        return Finding(State.BAD, str(error), mend)
    told = f"{waiting:,} notifications wait"
    if aside:
        told += f", {aside:,} could not be used"
        remedy = "read their reason; once they can be used, `moodlake cloud replay`"
        return Finding(State.DOUBTFUL, told, remedy)
    if waiting > _MANY:
        remedy = (
            "is the triggerer running, and score_on_arrival not paused? Runs that list the bucket "
            "find the same images: the queue may be purged"
        )
        return Finding(State.DOUBTFUL, told, remedy)
    return Finding(State.GOOD, told)


def _waiting(queue: str) -> int:
    attributes = _client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[_WAITING])
    return int(attributes["Attributes"][_WAITING])


def airflow(settings: Settings) -> Finding:
    """Whether its parts have a heartbeat."""
    if not settings.airflow_url:
        return Finding(State.ABSENT, "its address is not known here (MOODLAKE_AIRFLOW_URL)")
    try:
        answer = httpx.get(settings.airflow_url.rstrip("/") + _HEALTH, timeout=10)
        parts: dict[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return Finding(State.BAD, f"{settings.airflow_url}: {error}", "is its API server running?")
    states = {name: part.get("status") for name, part in parts.items() if part.get("status")}
    ill = [f"{name}: {state}" for name, state in states.items() if state != "healthy"]
    if ill:
        return Finding(State.BAD, "; ".join(ill), "start what is missing; its log tells why")
    return Finding(State.GOOD, f"{settings.airflow_url}: {', '.join(states)}")


def task_quota(settings: Settings) -> Finding:
    """How many cores Fargate gives this account."""
    if os.environ.get("AWS_ENDPOINT_URL"):
        return Finding(State.ABSENT, "of AWS only")
    service, code = _FARGATE_CORES
    try:
        answer = _client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
    except (ClientError, BotoCoreError) as error:
        return Finding(State.ABSENT, f"cannot be asked: {error}")
    cores = answer["Quota"]["Value"]
    if cores < _FEWEST_CORES:
        remedy = "ask for more in Service Quotas, where more servers are wanted"
        return Finding(State.DOUBTFUL, f"{cores:.0f} cores of Fargate", remedy)
    return Finding(State.GOOD, f"{cores:.0f} cores of Fargate")


def _client(service: str) -> Any:
    # boto3 by itself reads AWS_DEFAULT_REGION only.
    return boto3.client(service, region_name=os.environ.get("AWS_REGION"))
