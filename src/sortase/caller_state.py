"""What the process of the caller looks like is as it was after every public call.

Libraries that train draw from global generators, switch global flags and write to the environment. Nothing is imported
here for the sake of it: what is not loaded has no state.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def preserved() -> Iterator[None]:
    """Random generators, flags of torch, settings of Matplotlib, loggers, warning filters, environment and folder."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for snapshot in (_folder, _environment, _loggers, _random, _numpy, _torch, _matplotlib):
            stack.callback(snapshot())
        yield


def _folder() -> Callable[[], None]:
    before = Path.cwd()

    def restore() -> None:
        if Path.cwd() != before:
            os.chdir(before)

    return restore


def _environment() -> Callable[[], None]:
    before = dict(os.environ)

    def restore() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    return restore


def _loggers() -> Callable[[], None]:
    """Of those that exist; what a library sets up for its own when it is first imported stays."""
    named = [item for item in logging.Logger.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    before = [(it, it.level, it.propagate, it.disabled, list(it.handlers)) for it in (logging.getLogger(), *named)]

    def restore() -> None:
        for logger, level, propagate, disabled, handlers in before:
            if logger.level != level:
                logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            if logger.handlers != handlers:
                logger.handlers[:] = handlers

    return restore


def _random() -> Callable[[], None]:
    before = random.getstate()
    return lambda: random.setstate(before)


def _numpy() -> Callable[[], None]:
    before: Any = np.random.get_state(legacy=False)
    return lambda: np.random.set_state(before)


def _torch() -> Callable[[], None]:
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    generator = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    flags = [(read, write, read()) for read, write in _flags(torch)]

    def restore() -> None:
        torch.set_rng_state(generator)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
        for read, write, value in flags:
            if read() != value:
                write(value)

    return restore


def _flags(torch: Any) -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Pairs of what reads and what writes a global switch."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        *(
            (lambda of=of, name=name: getattr(of, name), lambda value, of=of, name=name: setattr(of, name, value))
            for of, name in ((cudnn, "deterministic"), (cudnn, "benchmark"), (cudnn, "enabled"), (matmul, "allow_tf32"))
        ),
    ]


def _matplotlib() -> Callable[[], None]:
    """The backend is looked at without choosing one."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None:
        return lambda: None
    before = dict(matplotlib.rcParams.copy())  # a copy of dict itself would choose a backend
    return lambda: dict.update(matplotlib.rcParams, before)
