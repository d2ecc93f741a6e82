"""The Hugging Face hub: it is asked for what is not here, and has its time for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..deadlines import UnansweredError, limit, within
from ..errors import InfrastructureError

T = TypeVar("T")


def asked_for(name: str, work: Callable[[], T], named: str = "hub-look") -> T:
    """What ``work`` returns, which reads ``name``: a path here, where it has all the time it needs, or a hub's name."""
    if Path(name).exists():
        return work()
    try:
        return within(limit(named), work)
    except UnansweredError as error:
        raise InfrastructureError(
            f"the Hugging Face hub does not answer for {name}: {error}, the limit {named}. With HF_HUB_OFFLINE=1 only "
            "what this machine has of it is used; a folder or URL of storage needs no hub"
        ) from error
