"""Estimates and simulations of installations."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.bench.sizing import predicted_seconds
from infra.sizing.__main__ import days
from infra.sizing.cost import Load, load_prices, size
from infra.sizing.limits import exceeded_limits
from infra.sizing.rates import IDLE_SECONDS, Measured, Rates
from infra.sizing.simulation import Setup, daily, simulate
from moodlake.cli import app
from moodlake.scoring.run.policy import Policy
from moodlake.settings import PROJECT_ROOT
from tests.aws.test_template import resources

RATES = Rates(
    image=0.02,
    task_image=0.001,
    shard=0.5,
    airflow_task=2.0,
    scheduler_task=0.2,
    airflow_run=3.0,
    plan=0.3,
    key=1e-4,
    publish=0.5,
    row=1e-5,
)
DAY = 86_400
arrivals = st.lists(
    st.tuples(st.floats(0, 4 * 3600), st.integers(1, 50_000)), min_size=1, max_size=10
)


def test_one_shard_on_one_core_takes_the_sum_of_its_parts() -> None:
    setup = Setup(RATES, shard_size=1000, slots=1, cores=1)
    outcome = simulate(setup, [(0, 1000)], DAY)
    work = RATES.airflow_task + RATES.shard + 1000 * (RATES.image + RATES.task_image)
    around = RATES.airflow_run + RATES.plan + 1000 * RATES.key + RATES.publish + 1000 * RATES.row
    assert outcome.ended == pytest.approx(work + around)
    assert outcome.delay(1) == pytest.approx(outcome.ended)


def test_two_cores_halve_what_can_be_shared() -> None:
    one, two = (
        simulate(Setup(RATES, shard_size=1000, slots=2, cores=cores), [(0, 8000)], DAY).ended
        for cores in (1, 2)
    )
    alone = RATES.airflow_run + RATES.plan + 8000 * RATES.key + RATES.publish + 8000 * RATES.row
    assert two - alone == pytest.approx((one - alone) / 2, rel=0.02)


def test_the_simulation_agrees_with_measured_runs() -> None:
    cores, runs = Measured.runs()
    assert len(runs) >= 4
    for run in runs:
        predicted = predicted_seconds(Rates.measured(), run.images, run.shard_size, cores)
        assert predicted == pytest.approx(run.seconds, rel=0.15), run


@settings(max_examples=40, deadline=None)
@given(
    arrivals,
    st.integers(1, 3),
    st.sampled_from([math.inf, 3600.0, 600.0]),
    st.sampled_from([math.inf, 300.0]),
)
@example(
    [(1.420378920341136, 1), (8193.50274766068, 1), (8193.50274766068, 1)], 1, math.inf, math.inf
)
def test_every_image_gets_one_row_despite_failures(
    arrived: list[tuple[float, int]], servers: int, server_dies: float, task_dies: float
) -> None:
    setup = Setup(
        RATES, servers=servers, slots=8, server_dies=server_dies, task_dies=task_dies, every=600
    )
    outcome = simulate(setup, arrived, 30 * DAY)
    images = sum(count for _, count in arrived)
    assert outcome.images == sum(count for _, count in outcome.delays) == images
    assert outcome.pending == 0
    assert min(seconds for seconds, _ in outcome.delays) > 0
    assert outcome.delay(0.5) <= outcome.delay(0.99) <= outcome.delay(1)
    assert 1 <= outcome.max_servers <= servers


def test_failures_cost_time() -> None:
    setup = Setup(RATES, servers=2, slots=8)
    quiet = simulate(setup, [(0, 100_000)], DAY)
    stormy = simulate(replace(setup, server_dies=300, task_dies=300), [(0, 100_000)], DAY)
    assert stormy.ended > quiet.ended
    assert stormy.tasks > quiet.tasks


def test_servers_stop_when_nothing_is_pending() -> None:
    setup = Setup(RATES, every=DAY / 2)
    outcome = simulate(setup, [(0, 1000), (DAY - 60, 1000)], 2 * DAY)
    assert outcome.pending == 0
    # A run at noon starts a server, too; the last server stays until the last row.
    assert 2 * 900 < outcome.server_seconds < 3 * 1800


def test_runs_wait_for_a_slow_server() -> None:
    setup = Setup(RATES, start_seconds=1200, idle_seconds=900)
    assert simulate(setup, [(0, 1000)], DAY).images == 1000


def test_a_backlog_adds_servers_which_finish_sooner() -> None:
    few, many = (
        simulate(Setup(RATES, servers=most, slots=64, every=60), [(0, 1_000_000)], DAY)
        for most in (1, 8)
    )
    assert (few.max_servers, many.max_servers) == (1, 8)
    assert many.ended < few.ended / 2


def test_images_beyond_capacity_stay_pending() -> None:
    setup = Setup(RATES, servers=1, slots=2)
    outcome = simulate(setup, daily(20_000_000), DAY)
    assert outcome.pending > 10_000_000
    assert outcome.images + outcome.pending <= 20_000_000


@given(st.integers(1, 10**9), st.integers(1, 200))
def test_arrivals_of_a_day_are_complete(images: int, bins: int) -> None:
    found = daily(images, bins)
    assert sum(count for _, count in found) == images
    assert all(0 < at < DAY for at, _ in found)


def test_the_cost_per_image_falls_with_the_volume() -> None:
    prices = load_prices()
    dear, cheap = (
        size(Load(images, 4096, inventory=True), RATES, prices).month / images
        for images in (10_000, 100_000_000)
    )
    assert cheap < dear / 100


def test_the_cost_of_servers_grows_with_the_images() -> None:
    prices = load_prices()
    one, ten = (size(Load(images, 1024), RATES, prices) for images in (10**7, 10**8))
    assert ten.dollars["servers"] == pytest.approx(10 * one.dollars["servers"])
    hour = prices["fargate"]["vcpu_hour"] + 2 * prices["fargate"]["gb_hour"]
    hours = 10**7 * RATES.image / 3600 / 0.5
    assert one.dollars["servers"] == pytest.approx(30.4375 * hours * hour)
    spot = size(Load(10**8, 1024, spot=True), RATES, prices)
    assert spot.dollars["servers"] < ten.dollars["servers"] / 2
    # The first server never runs on Spot.
    few, few_on_spot = (
        size(Load(1000, 1024, spot=spot), RATES, prices).dollars["servers"]
        for spot in (False, True)
    )
    assert few == few_on_spot


def test_the_cost_of_an_idle_server_agrees_with_the_simulation() -> None:
    """Hourly runs of a small load: a server is mostly idle."""
    month = int(10**5 * 30.4375)
    load = Load(10**5, 1024, listed=month, notified=False)
    found = size(load, RATES, load_prices())
    outcome = simulate(Setup(RATES, slots=4, in_bucket=month), daily(10**5), DAY)
    assert found.core_hours == pytest.approx(2 * outcome.server_seconds / 3600, rel=0.15)


def test_a_server_with_notifications_rarely_stops() -> None:
    prices = load_prices()
    frequent, seldom = (size(Load(images, 1024, listed=0), RATES, prices) for images in (10**4, 2))
    assert frequent.core_hours == pytest.approx(48)
    asleep = size(Load(2, 1024, listed=0, notified=False), RATES, prices)
    assert asleep.core_hours < seldom.core_hours < 1.1 * asleep.core_hours < frequent.core_hours / 2


def test_servers_stop_after_the_idle_time_of_the_template() -> None:
    idle = resources("AWS::CloudWatch::Alarm")["Idle"]
    (requests,) = (each for each in idle["Metrics"] if each["Id"] == "requests")
    assert idle["EvaluationPeriods"] * requests["MetricStat"]["Period"] == IDLE_SECONDS


@pytest.mark.parametrize("load", [Load(0, 1024), Load(10, 1024, busy=0)])
def test_an_empty_load_is_an_error(load: Load) -> None:
    with pytest.raises(ValueError, match="images a day, servers busy"):
        size(load, RATES, load_prices())


def test_a_small_load_exceeds_no_limit_and_a_large_one_several() -> None:
    assert not exceeded_limits(Load(100_000, 1024), RATES)
    found = {
        each.name.partition(" ")[0]: each for each in exceeded_limits(Load(10**9, 1024), RATES)
    }
    assert {"images", "seconds", "notifications", "shard"} <= set(found)
    for each in found.values():
        assert each.demand > each.limit
        assert each.remedy


def test_remedies_lift_limits() -> None:
    before = exceeded_limits(Load(10**8, 1024), RATES)
    after = exceeded_limits(Load(10**8, 10_000, runs=144, inventory=True, notified=False), RATES)
    assert {each.name for each in after} < {each.name for each in before}


def test_the_docs_show_the_computed_costs() -> None:
    loads = (
        Load(10**5, 1024),
        Load(10**6, 1024, listed=42_000),
        Load(
            10**8,
            10_000,
            runs=48,
            listed=4_200_000,
            notified=False,
            large=True,
            spot=True,
        ),
    )
    prices, docs = load_prices(), (PROJECT_ROOT / "docs" / "scale.md").read_text("utf-8")
    months = [size(load, Rates.measured(), prices).month for load in loads]
    assert f"| dollars a month | {' | '.join(f'{month:,.0f}' for month in months)} |" in docs


def test_runs_and_estimates_use_the_same_prices() -> None:
    ours, prices = load_prices()["s3"], Policy.load().prices
    assert prices.get_thousand == ours["get_thousand"]
    assert prices.list_thousand == ours["list_thousand"]


def test_the_command_shows_size_price_and_exceeded_limits() -> None:
    done = CliRunner().invoke(app, ["cloud", "size", "100000000"])
    assert done.exit_code == 0, done.output
    for expected in (
        "97,657 in 326",
        "per million images",
        "prices of",
        "exceeds:",
        "S3 Inventory",
    ):
        assert expected in done.output
    quiet = CliRunner().invoke(app, ["cloud", "size", "1000"])
    assert "exceeds:" not in quiet.output


def test_servers_restart_after_a_long_listing() -> None:
    setup = Setup(RATES, in_bucket=20_000_000, every=DAY)  # more than half an hour of listing
    outcome = simulate(setup, [(0, 1000)], DAY)
    assert outcome.images == 1000


@pytest.mark.parametrize("name", [name for name in days(RATES) if "10^5" in name])
def test_the_simulated_days_use_the_sizes_of_the_template(name: str) -> None:
    setup, arrived = days(RATES)[name]
    assert (setup.servers, setup.workers, setup.slots) == (2, 2, 4)
    assert simulate(setup, arrived, 2 * DAY).images == 10**5
