"""How a request to S3 ends: it is sent once, and has its time, whatever the client below would do."""

from __future__ import annotations

import asyncio
from typing import Any

from ..deadlines import limit
from .retry import SLOWEST

BEYOND = 1.2  # times botocore's own limits, whose words are better


def sent_once(seconds: float) -> dict[str, Any]:
    """Settings of botocore: a request is given up when nothing comes for so long."""
    return {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": min(seconds, limit("storage-connect")),
        "read_timeout": seconds,
    }


def bounded(filesystem: Any, seconds: float) -> None:
    """Let no request of this s3fs last longer than ``seconds`` until its answer begins, and what its content takes.

    botocore's own limits begin when all has been sent: a server that does not read, or does not say that it will, is
    waited for without an end.
    """
    if "_call_s3" in vars(filesystem):
        return
    call = filesystem._call_s3

    async def in_time(method: str, *arguments: Any, **options: Any) -> Any:
        body = options.get("Body")
        size = len(body) if isinstance(body, bytes | bytearray | memoryview) else 0
        longest = BEYOND * seconds + size / SLOWEST
        try:
            return await asyncio.wait_for(call(method, *arguments, **options), longest)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer to {method} in {longest:.0f} s") from error

    filesystem.retries = 1
    filesystem._call_s3 = in_time
