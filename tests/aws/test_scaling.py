"""The alarms of scaling.yaml add and remove servers as intended, by their own expressions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.aws.template import template
from tests.aws.test_template import resources

SCALING = template("run")["Mappings"]["Scaling"]
ALARMS = resources("AWS::CloudWatch::Alarm")
POLICIES = resources("AWS::ApplicationAutoScaling::ScalingPolicy")
METRICS = {
    "ImagesWaiting": "pending",
    "HTTPCode_ELB_503_Count": "unserved",
    "RequestCount": "requests",
    "HealthyHostCount": "healthy",
    "CPUUtilization": "processors",
}
COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}
maybe = st.sampled_from([nan, 0.0, 1.0, 2.0, 10.0, 50.0, 1e6])


def if_(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


FUNCTIONS: dict[str, Any] = {"IF": if_, "SUM": np.nansum, "TIME_SERIES": np.float64}


def in_size(value: Any, size: str = "small") -> Any:
    """Return a number, or the value of Fn::FindInMap."""
    return SCALING[size][value["Fn::FindInMap"][2]] if isinstance(value, dict) else value


def breaches(name: str, **values: float) -> bool:
    """Whether a minute with these values of metrics breaches an alarm's threshold.

    Evaluates CloudWatch's IF, SUM and TIME_SERIES, with NaN for missing values.
    """
    alarm = ALARMS[name]
    known = {metric: np.float64(values.get(metric, nan)) for metric in METRICS.values()}
    if "Metrics" not in alarm:
        value = known[METRICS[alarm["MetricName"]]]
    else:
        for each in alarm["Metrics"][::-1]:  # the first one decides
            if "Expression" in each:
                with np.errstate(all="ignore"):
                    known[each["Id"]] = value = eval(each["Expression"], FUNCTIONS, known)
            else:
                assert METRICS[each["MetricStat"]["Metric"]["MetricName"]] == each["Id"]
    if not np.isfinite(value):
        return bool(alarm["TreatMissingData"] == "breaching")
    return bool(COMPARED[alarm["ComparisonOperator"]](value, in_size(alarm["Threshold"])))


def changes(name: str) -> list[int]:
    """Return the adjustments of an alarm's scaling policy."""
    (action,) = ALARMS[name]["AlarmActions"]
    steps = POLICIES[action["Ref"]]["StepScalingPolicyConfiguration"]["StepAdjustments"]
    return [step["ScalingAdjustment"] for step in steps]


SCALES = [name for name, alarm in ALARMS.items() if alarm["AlarmActions"][0].get("Ref") in POLICIES]
SCALES_IN = [name for name in SCALES if max(changes(name)) <= 0]


def test_alarms_scale_in_and_out() -> None:
    assert set(SCALES_IN) == {"Idle", "LowCpu"}
    assert set(SCALES) - set(SCALES_IN) == {"NoCapacity", "Backlog", "HighLatency"}


@given(pending=maybe, unserved=maybe, requests=maybe, healthy=maybe, busy=maybe)
def test_the_last_server_stops_only_without_load(
    pending: float, unserved: float, requests: float, healthy: float, busy: float
) -> None:
    load = {"pending": pending, "unserved": unserved, "requests": requests}
    wanted = any(value > 0 for value in load.values())
    assert breaches("Idle", healthy=healthy, processors=busy, **load) == (not wanted)
    if not healthy > 1:
        assert not breaches("LowCpu", healthy=healthy, processors=busy, **load)


def test_scaling_in_takes_15_minutes_without_load() -> None:
    for name in SCALES_IN:
        periods = {
            each["MetricStat"]["Period"] for each in ALARMS[name]["Metrics"] if "MetricStat" in each
        }
        assert periods == {60}
        assert ALARMS[name]["EvaluationPeriods"] == 15
        # All of the periods must breach.
        assert "DatapointsToAlarm" not in ALARMS[name]
    assert breaches("Idle")
    assert breaches("Idle", pending=0, healthy=2)
    assert not breaches("Idle", requests=1, healthy=2)


def test_an_unserved_request_starts_a_server_that_stays() -> None:
    assert breaches("NoCapacity", unserved=1)
    assert breaches("NoCapacity", unserved=1, healthy=0)
    assert not breaches("Idle", unserved=1)


@pytest.mark.parametrize("name", ["NoCapacity", "Backlog", "LowCpu"])
def test_missing_metrics_change_nothing(name: str) -> None:
    assert not breaches(name)


def test_many_pending_images_per_server_add_servers() -> None:
    each = SCALING["small"]["Backlog"]
    assert breaches("Backlog", pending=each, healthy=1)
    assert not breaches("Backlog", pending=each, healthy=2)
    assert breaches("Backlog", pending=2 * each, healthy=2)
    # Starting the first server is the job of another alarm.
    assert not breaches("Backlog", pending=each, healthy=0)


def test_one_of_several_servers_stops_with_little_load() -> None:
    assert breaches("LowCpu", pending=0, healthy=2, processors=5)
    assert not breaches("LowCpu", pending=0, healthy=1, processors=5)
    assert not breaches("LowCpu", pending=0, healthy=2, processors=50)
    assert not breaches("LowCpu", pending=0, healthy=2)


@pytest.mark.parametrize("size", sorted(SCALING))
def test_steps_leave_no_gap(size: str) -> None:
    steps = POLICIES["ScaleOutForBacklog"]["StepScalingPolicyConfiguration"]["StepAdjustments"]
    bounds = [
        (
            in_size(step["MetricIntervalLowerBound"], size),
            in_size(step.get("MetricIntervalUpperBound"), size),
        )
        for step in steps
    ]
    assert bounds[0][0] == 0
    assert bounds[0][1] == bounds[1][0] > 0
    assert bounds[1][1] is None
    assert changes("Backlog") == sorted(changes("Backlog"))
