"""A connection to Ray: the cluster that is named, the surrounding job's, or one started on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..config.compute import ComputeSpec
from ..errors import InfrastructureError, MissingExtraError

PATIENCE = "120"  # seconds that Ray waits for its own server to start here; on a busy machine its 30 are not enough


@contextmanager
def connected(compute: ComputeSpec) -> Iterator[None]:
    """Ray is connected inside the block, and disconnected after it unless it was connected before."""
    ray = imported()
    if ray.is_initialized():
        yield
        return
    address = compute.address or os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", PATIENCE)
        os.environ.setdefault("RAY_worker_niceness", "0")  # as a run in this process has; Ray's own is 15
    try:
        with _own_signals():
            ray.init(
                address=address or "local",
                namespace=compute.namespace,
                include_dashboard=None if address else False,
                logging_level=logging.WARNING,
                log_to_driver=bool(os.environ.get("SORTASE_RAY_LOGS")),
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InfrastructureError(f"Ray on {address or 'this machine'} cannot be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; a run that is to keep a checkpoint needs it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def imported():  # type: ignore[no-untyped-def]
    """The ray module, or which extra installs it."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("compute on Ray needs the extra 'ray': pip install 'sortase[ray]'") from error
    return ray
