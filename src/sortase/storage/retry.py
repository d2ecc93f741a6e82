"""Repeats of what a storage service failed at in passing, and the words for what it refused."""

from __future__ import annotations

import errno
import io
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from ..deadlines import UnansweredError, is_leaving, limit, within
from ..errors import MissingInputError, SortaseError, StorageError
from ..redact import redacted

T = TypeVar("T")
BUDGET = 60.0  # seconds after its first failure for which a request is repeated
IMPATIENT = 5.0  # the same, where nothing is lost yet, and where a service was given up a moment ago
FAREWELL = 2.0  # for one answer of a service that was given up, once this process has to end
SLOWEST = 10**6  # bytes a second that a service takes, at least
LOOK = "look for"
FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
_JITTER = random.SystemRandom()  # differs between processes, also forked ones, that fail at the same moment

# NoSuchUpload answers the repeat of a completion whose first answer was lost; sending the whole again settles it.
_PASSING_CODES = frozenset(
    {"429", "500", "502", "503", "504", "ConditionalRequestConflict", "InternalError", "NoSuchUpload", "RequestTimeout"}
    | {"ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
)
_TAKEN_CODES = ("PreconditionFailed", "412")
_PASSING_ERRNOS = {errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}
_PASSING_NAMES = (
    *("ConnectionError", "TimeoutError", "ConnectionClosedError", "ServerDisconnectedError"),
    *("ClientPayloadError", "IncompleteReadError", "ResponseStreamingError", "HTTPClientError"),
)
_REPLACED = "FileExpired"  # how s3fs says that a file has another ETag than when it was opened


class ReplacedError(StorageError):
    """What is read was replaced meanwhile: no part of it may be put beside parts of the other."""


def _code(error: BaseException) -> str:
    """The service's own code for an error, where it has one: botocore keeps it in ``response``."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_passing(error: BaseException | None) -> bool:
    """Whether the same request may succeed later: lost connections, time-outs, a server that is busy or restarting."""
    while error is not None:
        if _code(error) in _PASSING_CODES or isinstance(error, ConnectionError | TimeoutError):
            return True
        if type(error).__name__.endswith(_PASSING_NAMES):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
            return True
        error = error.__cause__
    return False


def create_remote(data: bytes, filesystem: Any, path: str) -> bool:
    """Write a file where there is none; False where there is one."""
    try:
        filesystem.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if _code(error.__cause__ or error) in _TAKEN_CODES:
            return False
        raise
    return True


_patient: ContextVar[bool] = ContextVar("patient", default=True)


class _GivenUp:
    """When a service was given up last: what is cleaned up after that does not wait as long once more."""

    at: ClassVar[float] = -math.inf


@contextmanager
def impatiently() -> Iterator[None]:
    """Inside, a service that does not answer is given up within ``IMPATIENT`` seconds: nothing is lost yet."""
    token = _patient.set(False)
    try:
        yield
    finally:
        _patient.reset(token)


@contextmanager
def aside() -> Iterator[None]:
    """Inside, giving a service up is no reason for others to wait for it less long."""
    before = _GivenUp.at
    try:
        yield
    finally:
        _GivenUp.at = before


def _budget() -> float:
    recently = time.monotonic() - _GivenUp.at < BUDGET
    if is_leaving():
        return 0.0 if recently else min(IMPATIENT, BUDGET)
    return BUDGET if _patient.get() and not recently else min(IMPATIENT, BUDGET)


def silence() -> float:
    """Seconds for which a service may send nothing before a request counts as failed."""
    budget = _budget()
    if budget == 0:
        return min(FAREWELL, limit("storage-answer"))
    return limit("storage-answer") if budget > IMPATIENT else min(IMPATIENT, limit("storage-answer"))


def _whole(what: str, size: int) -> float:
    """Seconds for one attempt; a look is up to three requests, and the silence of each counts."""
    return 3 * silence() if what == LOOK else limit("storage-call") + size / SLOWEST


def attempt(work: Callable[[], T], what: str, url: str, size: int = 0) -> T:
    """Do ``work``, repeating it with growing pauses while it fails in passing; then say what failed, and where.

    The budget is ``BUDGET`` seconds from the first failure, with one more attempt at their end: a service that is gone
    for less than a minute is survived. An attempt has the limit ``storage-call`` for itself, more where it moves
    ``size`` bytes, less for a look; one that outlasts it is the last, because it may still be at work.
    """
    failures, first = 0, 0.0
    while True:
        try:
            done = within(_whole(what, size), work)
        except SortaseError:
            raise
        except UnansweredError as error:
            _GivenUp.at = time.monotonic()
            raise StorageError(f"cannot {what} {url}: {error}") from error
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not is_passing(error):
                raise MissingInputError(f"cannot {what} {url}: it does not exist") from error
            if type(error).__name__ == _REPLACED:
                raise ReplacedError(f"{url} was replaced while it was read; read it again") from error
            failures += 1
            now = time.monotonic()
            first = first or now
            left = first + _budget() - now
            if not is_passing(error) or left <= 0:
                if left <= 0:
                    _GivenUp.at = now
                tried = f" after {failures} attempts in {now - first:.0f} s" if failures > 1 else ""
                raise StorageError(f"cannot {what} {url}{tried}: {words(error)}") from _harmless(error)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1))
            time.sleep(min(left, wait * (0.5 + _JITTER.random() / 2)))
        else:
            _GivenUp.at = -math.inf
            return done


def _harmless(error: Exception) -> Exception | None:
    """The cause to show in tracebacks, which Ray writes to its logs; None where a secret is in its words."""
    seen: BaseException | None = error
    while seen is not None:
        if redacted(str(seen)) != str(seen):
            return None
        seen = seen.__cause__ or seen.__context__
    return error


def words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, TimeoutError) and not str(error) and error.__cause__ is not None:  # fsspec hides the words
        return words(error.__cause__)
    return f"{type(error).__name__}: {error}"


class Repeating(io.RawIOBase):
    """A remote file each of whose reads is repeated by itself, so that a long one does not start again.

    All reads are of the version that was opened: s3fs asks for its ETag.
    """

    def __init__(self, file: Any, url: str):
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        data = attempt(lambda: self._file.read(len(buffer)), "read", self._url)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
