"""The workers of a simulation: the cores of one machine, or servers that scale."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from typing import Any

import simpy

from infra.sizing.setup import Setup

Steps = Generator[simpy.Event, Any, None]
_EVALUATION_SECONDS = 60.0
"""Between two evaluations of the autoscaling; see infra/aws/run/scaling.yaml."""
_COOLDOWN_SECONDS = 300.0
_LARGE_STEP = 4
"""Servers added at once, if this many times the backlog is pending per server."""


class Cores:
    """The cores of one machine; work takes them as they become free."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env = env
        self._cores = simpy.Resource(env, cores)

    def wake(self) -> Steps:
        """Return at once: the machine always runs."""
        yield self._env.timeout(0)

    def work(self, seconds: float) -> Steps:
        """Keep one core busy."""
        with self._cores.request() as core:
            yield core
            yield self._env.timeout(seconds)


class _Server:
    def __init__(self, env: simpy.Environment) -> None:
        self.requested = env.now
        self.healthy = False
        self.gone = env.event()
        """Triggered when it stops or dies."""


class Fleet:
    """Servers behind one address.

    Args:
        env: the simulation's environment.
        setup: the number of servers, and their timing.
        chance: random numbers for server deaths.
        pending: returns the number of pending images.
    """

    def __init__(
        self,
        env: simpy.Environment,
        setup: Setup,
        chance: random.Random,
        pending: Callable[[], int],
    ) -> None:
        self._env = env
        self._setup = setup
        self._chance = chance
        self._pending = pending
        self._servers: list[_Server] = []
        self._workers = simpy.Store(env)
        self._ready = env.event()
        self._healthy = 0
        self._unserved = 0
        self._last_step = -_COOLDOWN_SECONDS
        self._last_request = 0.0
        self._past = 0.0
        self.max_servers = 0
        env.process(self._scale())

    def seconds(self) -> float:
        """Return the server seconds so far, each server's from its request on."""
        return self._past + sum(self._env.now - server.requested for server in self._servers)

    def wake(self) -> Steps:
        """Request a server if there is none, and wait until one answers."""
        if not self._servers:
            self._request_server()
        if not self._ready.triggered:
            self._unserved += 1
            yield self._ready
            self._unserved -= 1
            self._last_request = self._env.now

    def work(self, seconds: float) -> Steps:
        """Keep a server's worker busy; if the server is lost, repeat the work on another."""
        while True:
            server: _Server = yield self._workers.get()
            if server.gone.triggered:
                continue
            done = self._env.timeout(seconds)
            yield done if self._setup.server_dies == math.inf else done | server.gone
            self._last_request = self._env.now
            if done.processed:
                self._workers.put(server)
                return

    def _scale(self) -> Steps:
        while True:
            yield self._env.timeout(_EVALUATION_SECONDS)
            pending = self._pending()
            if pending and not self._servers:
                self._request_server()  # failed requests start one
            cooled_down = self._env.now - self._last_step >= _COOLDOWN_SECONDS
            if self._healthy and cooled_down:
                backlogs = pending / self._healthy / self._setup.images_per_server
                step = _LARGE_STEP if backlogs >= _LARGE_STEP else int(backlogs >= 1)
                step = min(step, self._setup.servers - len(self._servers))
                for _ in range(step):
                    self._request_server()
                    self._last_step = self._env.now
            # Unserved requests repeat, and count as load.
            wanted = pending or self._unserved
            if not wanted and self._env.now - self._last_request >= self._setup.idle_seconds:
                for server in list(self._servers):
                    self._lose(server)
                self._ready = self._env.event()

    def _request_server(self) -> None:
        server = _Server(self._env)
        self._servers.append(server)
        self.max_servers = max(self.max_servers, len(self._servers))
        self._env.process(self._live(server))

    def _live(self, server: _Server) -> Steps:
        yield self._env.timeout(self._setup.start_seconds)
        if server.gone.triggered:
            return
        self._healthy += 1
        server.healthy = True
        for _ in range(self._setup.workers):
            self._workers.put(server)
        if not self._ready.triggered:
            self._ready.succeed()
        if self._setup.server_dies < math.inf:
            life = self._env.timeout(self._chance.expovariate(1 / self._setup.server_dies))
            yield life | server.gone
            if not server.gone.triggered:
                self._lose(server)
                self._request_server()

    def _lose(self, server: _Server) -> None:
        self._servers.remove(server)
        self._healthy -= server.healthy
        self._past += self._env.now - server.requested
        server.gone.succeed()
