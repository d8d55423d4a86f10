"""The ports of the local services, with their documented defaults."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from moodlake.errors import UserError

HOST = "127.0.0.1"
_FREE_RANGE = (20_000, 32_000)
"""Free ports: below those that Linux gives to outgoing connections, above the defaults here."""
_BLOCK = 20
_reservations: list[socket.socket] = []


@dataclass(frozen=True)
class Ports:
    """One port for each listener, all on the loopback address."""

    s3: int = 8333
    s3_grpc: int = 18333
    master: int = 9333
    master_grpc: int = 19333
    volume: int = 9340
    volume_grpc: int = 19340
    filer: int = 8888
    filer_grpc: int = 18888
    gateway: int = 8080
    inference: int = 8083
    management: int = 8081
    metrics: int = 8082
    inference_grpc: int = 7070
    management_grpc: int = 7071
    airflow: int = 8090
    page: int = 8501

    @classmethod
    def free(cls) -> Self:
        """Choose ports that nothing listens on, and that no other process gets from here.

        Raises:
            UserError: there are none.
        """
        starts = list(range(*_FREE_RANGE, _BLOCK))
        random.Random().shuffle(starts)  # seeds of callers must not choose the ports
        for start in starts:
            ports = range(start, start + len(cls.__dataclass_fields__))
            if _reserve(start) and not any(map(is_taken, ports)):
                return cls(*ports)
        raise UserError(f"no free ports between {_FREE_RANGE[0]} and {_FREE_RANGE[1]}")

    def busy(self) -> dict[str, int]:
        """Return the ports that another program listens on, by name."""
        return {name: port for name, port in asdict(self).items() if is_taken(port)}


@dataclass(frozen=True)
class ClusterPorts(Ports):
    """The ports of a stack whose Airflow runs tasks in Celery workers."""

    postgres: int = 15432
    redis: int = 16379


def _reserve(start: int) -> bool:
    """Reserve a block of ports against other processes that choose some, until this one ends."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0moodlake-ports-{start}")  # an abstract address: no file remains
    except OSError:
        holder.close()
        return False
    _reservations.append(holder)
    return True


def read_ports(recorded: Mapping[str, int]) -> Ports:
    """Return the ports recorded in a stack.json, also one that calls the gateway `front`."""
    ports = {"gateway" if name == "front" else name: port for name, port in recorded.items()}
    return ClusterPorts(**ports) if "redis" in ports else Ports(**ports)


def is_taken(port: int, host: str = HOST) -> bool:
    """Return whether another program listens on this port.

    Raises:
        OSError: nobody can listen there: `host` is no address of this machine, or the port is
            reserved for root.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def ensure_free(port: int, host: str = HOST) -> None:
    """Check that this process can listen on a port.

    Raises:
        UserError: it cannot.
    """
    try:
        taken = is_taken(port, host)
    except OSError as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    if taken:
        raise UserError(f"port {port} is in use; --port chooses another")
