"""Requests in flight, against a server played out on a clock of its own."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from moodlake.scoring.run.concurrency import ConcurrencyLimit, Stopped

MOST = 16


def settle(workers: int, work: float = 1.0, rounds: int = 400) -> int:
    """The limit after so many answers of a server that works on `workers` requests at once."""
    pace = ConcurrencyLimit(MOST)
    for _ in range(rounds):
        pace.answered(work * max(1.0, pace.limit / workers), work)
    return pace.limit


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_all_workers_are_kept_busy_and_little_waits(workers: int) -> None:
    assert workers <= settle(workers) <= workers + 4


def test_the_limit_is_never_exceeded() -> None:
    assert settle(1000) == MOST


def test_large_requests_do_not_pass_for_slow_ones() -> None:
    pace = ConcurrencyLimit(MOST)
    for number in range(400):
        work = 1.0 + number % 7
        pace.answered(work * max(1.0, pace.limit / 4), work)
    assert 4 <= pace.limit <= 8


def test_a_refusal_halves_it_once_for_all_that_were_in_flight() -> None:
    pace = ConcurrencyLimit(MOST, start=16)
    for _ in range(8):
        pace.throttled(1.0)
    assert pace.limit == 8
    for _ in range(5):
        pace.throttled(-1.0)  # begun later than the one before
    assert pace.limit == 1


def test_no_more_are_in_flight_than_the_limit() -> None:
    pace = ConcurrencyLimit(MOST, start=3)
    flying, most = 0, 0
    lock = threading.Lock()

    def ask() -> None:
        nonlocal flying, most
        with pace.request():
            with lock:
                flying += 1
                most = max(most, flying)
            time.sleep(0.005)
            with lock:
                flying -= 1

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_a_server_that_became_slower_is_used_as_before() -> None:
    pace = ConcurrencyLimit(MOST)
    for number in range(1500):
        pace.answered((3.0 if number > 400 else 1.0) * max(1.0, pace.limit / 8))
    assert pace.limit >= 8


def test_nobody_waits_after_the_end() -> None:
    pace = ConcurrencyLimit(MOST)
    let_go = threading.Event()

    def wait() -> None:
        with contextlib.suppress(Stopped), pace.request():
            return
        let_go.set()

    with pace.request():
        waiting = threading.Thread(target=wait)
        waiting.start()
        pace.stop()
        waiting.join(5)
    assert let_go.is_set()
