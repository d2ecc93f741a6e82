"""Whether a Ray cluster answers at an address, found out in seconds: Ray itself tries for many minutes, silently."""

from __future__ import annotations

import os
import socket

from ..deadlines import UnansweredError, limit, within
from ..errors import ConfigError, InfrastructureError

WANTED = (
    "the port of Ray's GCS is wanted (6379, unless `ray start --head --port` says another), not the dashboard's (8265) "
    "and not Ray Client's (10001)"
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # RFC 9113, 3.4: with empty settings
_SETTINGS = 4  # the kind of frame that every HTTP/2 server sends first
_ON = {"1", "true", "True"}


def refuse_client(address: str) -> None:
    """ConfigError for an address of Ray Client, through which neither Ray Train nor Ray Tune work."""
    if address.startswith("ray://"):
        host = address.removeprefix("ray://").partition("/")[0].rpartition(":")[0] or "HOST"
        raise ConfigError(
            f"the Ray address {address} is one of Ray Client, which cannot train: run this on a node of the cluster "
            f"with {host}:6379, or send it there with `sortase submit --address http://{host}:8265`"
        )


def check_reach(address: str) -> None:
    """InfrastructureError where no GCS answers at ``address`` (host:port, or ``auto``): which port is wanted."""
    from ray._private.services import canonicalize_bootstrap_address

    refuse_client(address)
    try:
        found = within(limit("ray-port"), lambda: canonicalize_bootstrap_address(address))
    except (ValueError, OSError) as error:
        raise InfrastructureError(f"Ray on {address} cannot be reached: {error}; {WANTED}") from error
    if found is None:
        raise InfrastructureError(f"Ray on {address} cannot be reached: no Ray runs on this machine")
    if os.environ.get("RAY_USE_TLS", "") not in _ON:
        for place in dict.fromkeys([found if address == "auto" else address, found]):  # Ray puts a name for localhost
            host, _, port = place.rpartition(":")
            _greet(address, host.strip("[]"), int(port))
    _ask(address, found)


def _greet(address: str, host: str, port: int) -> None:
    """Whether a gRPC server listens there."""
    seconds = limit("ray-port")
    try:
        with within(seconds, lambda: socket.create_connection((host, port), seconds)) as connection:
            connection.settimeout(seconds)
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except TimeoutError as error:
        raise InfrastructureError(
            f"Ray on {address} cannot be reached: nothing answers there within {seconds:g} s; {WANTED}"
        ) from error
    except OSError as error:
        raise InfrastructureError(f"Ray on {address} cannot be reached: {error}; {WANTED}") from error
    if answer[3:4] != bytes([_SETTINGS]):
        raise InfrastructureError(f"Ray on {address} cannot be reached: what listens there is not Ray's GCS; {WANTED}")


def _ask(address: str, found: str) -> None:
    """Whether that server is a GCS, and takes our token."""
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RayError

    try:
        ensure_token_if_auth_enabled(create_token_if_missing=False)  # without a token the client ends the process
        within(limit("ray-answer"), lambda: GcsClient(address=found))
    except UnansweredError as error:
        raise InfrastructureError(f"Ray on {address} cannot be reached: {error}; {WANTED}") from error
    except (RayError, RuntimeError, ValueError) as error:
        raise InfrastructureError(
            f"Ray on {address} cannot be reached: {str(error).strip() or type(error).__name__}; {WANTED}"
        ) from error
