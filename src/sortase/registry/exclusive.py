"""Whether a storage lets one writer alone create a file: known of its protocol, and seen each time in races of two."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Barrier

from .. import storage
from ..errors import ConfigError, StorageError

KNOWN = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")  # their clients ask the service to create, and do not look
RACES = 4
SIZE = 64 * 2**10  # the longer files are on their way, the likelier a service that looks first sees neither
_REMEDY = "keep the registry in S3, Google Cloud Storage or Azure (s3://, gs://, abfs://), or on a disk with hard links"


def require_known(url: str) -> None:
    """ConfigError for a protocol whose client looks whether a file is there and writes it then; nothing is asked."""
    protocol = url.partition("://")[0]
    if storage.is_remote(url) and protocol not in KNOWN:
        raise ConfigError(
            f"{url}: files of {protocol}:// are not known to be created exclusively, so aliases could not move safely; "
            f"{_REMEDY}"
        )


def require_exclusive(url: str) -> None:
    """Refuse a storage in which two promotions could both win, and leave nothing in it.

    Raises:
        ConfigError: the protocol is not a known one, or two writers that raced did not end with one winner.
        StorageError: nothing can be written there.
    """
    require_known(url)
    folder = storage.join(url, f".probe-{uuid.uuid4().hex[:12]}")
    try:
        with storage.without_empty_folders(url), _removed(folder), ThreadPoolExecutor(1) as other:
            for number in range(RACES):
                _race(url, storage.join(folder, str(number)), other)
    except StorageError as error:
        if _is_unable(error):
            raise _refused(url, str(error)) from error
        raise


@contextmanager
def _removed(folder: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(StorageError):  # the first fault is the one to tell
            storage.remove(folder)
        raise
    storage.remove(folder)


def _race(url: str, name: str, other: ThreadPoolExecutor) -> None:
    start = Barrier(2)

    def write(content: bytes) -> bool:
        start.wait()
        return storage.create_bytes(name, content * SIZE)

    theirs = other.submit(copy_context().run, write, b"2")
    try:
        own = write(b"1")
    except BaseException:
        start.abort()  # the other one may still wait there
        raise
    winners = own + theirs.result()
    if winners != 1:
        raise _refused(url, f"{winners} of two writers were told that they created the same file")


def _refused(url: str, why: str) -> ConfigError:
    return ConfigError(
        f"{url}: this storage does not create files exclusively ({why}), so aliases could not move safely; {_REMEDY}"
    )


def _is_unable(error: StorageError) -> bool:
    """A service without ``If-None-Match``, or a file system without hard links."""
    cause = error.__cause__
    if not isinstance(cause, OSError):
        return False
    linked = cause.filename2 is not None
    return cause.errno == errno.ENOSYS or (linked and cause.errno in (errno.EPERM, errno.EOPNOTSUPP))
