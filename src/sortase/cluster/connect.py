"""A connection to Ray: the cluster that is named, the surrounding job's, or one started on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ..config.compute import ComputeSpec
from ..deadlines import UnansweredError, limit, within
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
    elsewhere = bool(address) and address != "local"
    if address and elsewhere:
        from .reach import check_reach

        check_reach(address)
    else:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", PATIENCE)
        os.environ.setdefault("RAY_worker_niceness", "0")  # as a run in this process has; Ray's own is 15
    try:
        with _own_signals():
            start = partial(
                ray.init,
                address=address or "local",
                namespace=compute.namespace,
                include_dashboard=None if elsewhere else False,
                logging_level=logging.WARNING,
                log_to_driver=bool(os.environ.get("SORTASE_RAY_LOGS")),
            )
            if elsewhere:
                with _no_word_of_signals():
                    within(limit("ray-connect"), start)
            else:
                start()
    except UnansweredError as error:
        raise InfrastructureError(
            f"Ray on {address} answers, but does not let this process in: {error} (the limit ray-connect); a node of "
            "the cluster has to be alive on this machine"
        ) from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if "AF_UNIX path" in str(error):
            raise InfrastructureError(
                "the name of the folder for temporary files is too long for Ray's sockets; set RAY_TMPDIR to a folder "
                f"with a shorter name, such as /tmp ({error})"
            ) from error
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
            if handler is not None:  # of a library in C, which Python cannot set again
                signal.signal(number, handler)


@contextmanager
def _no_word_of_signals() -> Iterator[None]:
    """Ray warns that it does not take SIGTERM where it is not started in the main thread, which is wanted here."""
    logger = logging.getLogger("ray._private.worker")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def imported():  # type: ignore[no-untyped-def]
    """The ray module, or which extra installs it."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("compute on Ray needs the extra 'ray': pip install 'sortase[ray]'") from error
    return ray
