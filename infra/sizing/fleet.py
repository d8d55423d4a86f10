"""What does the work in a simulation: the cores of one machine, or servers that come and go."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from typing import Any

import simpy

from infra.sizing.setup import Setup

Steps = Generator[simpy.Event, Any, None]
_LOOK_SECONDS = 60.0
"""Between two looks of the autoscaling; see infra/aws/run/scaling.yaml."""
_COOLDOWN_SECONDS = 300.0
_LARGE_STEP = 4
"""So many servers at once, where so many times the backlog waits for each."""


class Cores:
    """Staging for the cores of one machine, which takes them as they become free."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env = env
        self._cores = simpy.Resource(env, cores)

    def wake(self) -> Steps:
        """It is there."""
        yield self._env.timeout(0)

    def work(self, seconds: float) -> Steps:
        """Keep one core busy."""
        with self._cores.request() as core:
            yield core
            yield self._env.timeout(seconds)


class _Server:
    def __init__(self, env: simpy.Environment) -> None:
        self.asked = env.now
        self.healthy = False
        self.gone = env.event()
        """Happens when it stops or dies."""


class Fleet:
    """Servers behind one address.

    Args:
        env: the simulation's.
        setup: how many there may be, and when.
        chance: for their deaths.
        waiting: how many images are.
    """

    def __init__(
        self,
        env: simpy.Environment,
        setup: Setup,
        chance: random.Random,
        waiting: Callable[[], int],
    ) -> None:
        self._env = env
        self._setup = setup
        self._chance = chance
        self._waiting = waiting
        self._servers: list[_Server] = []
        self._workers = simpy.Store(env)
        self._ready = env.event()
        self._healthy = 0
        self._refused = 0
        self._last_step = -_COOLDOWN_SECONDS
        self._last_asked = 0.0
        self._past = 0.0
        self.most = 0
        env.process(self._scale())

    def seconds(self) -> float:
        """That servers were there, each from the moment that it was asked for."""
        return self._past + sum(self._env.now - server.asked for server in self._servers)

    def wake(self) -> Steps:
        """Ask for a server if there is none, and wait until one answers."""
        if not self._servers:
            self._ask()
        if not self._ready.triggered:
            self._refused += 1
            yield self._ready
            self._refused -= 1
            self._last_asked = self._env.now

    def work(self, seconds: float) -> Steps:
        """Keep one worker of a server busy; if the server is lost, another one's."""
        while True:
            server: _Server = yield self._workers.get()
            if server.gone.triggered:
                continue
            done = self._env.timeout(seconds)
            yield done if self._setup.server_dies == math.inf else done | server.gone
            self._last_asked = self._env.now
            if done.processed:
                self._workers.put(server)
                return

    def _scale(self) -> Steps:
        while True:
            yield self._env.timeout(_LOOK_SECONDS)
            waiting = self._waiting()
            if waiting and not self._servers:
                self._ask()  # whoever asks is refused, and that starts one
            rested = self._env.now - self._last_step >= _COOLDOWN_SECONDS
            if self._healthy and rested:
                backlogs = waiting / self._healthy / self._setup.images_a_server
                step = _LARGE_STEP if backlogs >= _LARGE_STEP else int(backlogs >= 1)
                step = min(step, self._setup.servers - len(self._servers))
                for _ in range(step):
                    self._ask()
                    self._last_step = self._env.now
            # Who finds no server asks on, and that counts.
            wanted = waiting or self._refused
            if not wanted and self._env.now - self._last_asked >= self._setup.idle_seconds:
                for server in list(self._servers):
                    self._lose(server)
                self._ready = self._env.event()

    def _ask(self) -> None:
        server = _Server(self._env)
        self._servers.append(server)
        self.most = max(self.most, len(self._servers))
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
                self._ask()

    def _lose(self, server: _Server) -> None:
        self._servers.remove(server)
        self._healthy -= server.healthy
        self._past += self._env.now - server.asked
        server.gone.succeed()
