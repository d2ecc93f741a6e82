"""A GPU's memory: what does not fit it ends in words, and what is not needed any more is given back."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import DeviceMemoryError


@contextmanager
def explained_memory(words: Callable[[], str]) -> Iterator[None]:
    """An allocation that fails on the device becomes a DeviceMemoryError with these words, and lets go of its tensors.

    ``words`` say what was computed and which settings make it smaller.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)
        release_cache()
        reason = str(error).split(". ")[0]
        raise DeviceMemoryError(f"{words()} ({reason})") from error


def release_cache() -> None:
    """Give memory that no tensor uses any more back to the GPU, for other processes and models."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
