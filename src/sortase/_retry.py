"""Repeats of what a storage service failed at in passing, and the words for what it refused."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import MissingInputError, SortaseError, StorageError

T = TypeVar("T")
ATTEMPTS = 6
FIRST_WAIT = 0.2
LONGEST_WAIT = 8.0
_JITTER = random.Random(0)

_PASSING_CODES = {"500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}
_PASSING_ERRNOS = {errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}


def _code(error: BaseException) -> str:
    """The service's own code for an error, where it has one: botocore keeps it in ``response``."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_passing(error: BaseException | None) -> bool:
    """Whether the same request may succeed later: lost connections, time-outs, a server that is busy or restarting."""
    while error is not None:
        if _code(error) in _PASSING_CODES or isinstance(error, ConnectionError | TimeoutError):
            return True
        name = type(error).__name__
        if name.endswith(("ConnectionError", "TimeoutError", "ConnectionClosedError", "EndpointConnectionError")):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
            return True
        error = error.__cause__
    return False


def attempt(work: Callable[[], T], what: str, url: str) -> T:
    """Do ``work``, repeating it with growing pauses while it fails in passing; then say what failed, and where."""
    for number in range(1, ATTEMPTS + 1):
        try:
            return work()
        except SortaseError:
            raise
        except FileNotFoundError as error:
            raise MissingInputError(f"cannot {what} {url}: it does not exist") from error
        except Exception as error:
            if not is_passing(error) or number == ATTEMPTS:
                tried = f" after {number} attempts" if number > 1 else ""
                raise StorageError(f"cannot {what} {url}{tried}: {words(error)}") from error
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (number - 1))
            time.sleep(wait * (0.5 + _JITTER.random() / 2))
    raise AssertionError("unreachable: the last attempt returns or raises")


def words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    return f"{type(error).__name__}: {error}"
