"""Forward passes over a dataset: little padding, row order kept, memory bounded by a window of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..data.prefetch import Prefetcher
from ..data.sequences import IGNORED, Sequences
from ..errors import WorkFailedError
from ..progress import Progress
from ..stopping import check
from .device_memory import explained_memory
from .inputs import readable
from .load import Trained
from .masks import without_needless_mask
from .scores import Scores, empty

WINDOW_TOKENS = 4_000_000  # rows sorted by length together
WINDOW_ROWS = 8192
WINDOW_LOGITS = 32_000_000
PIECE_LOGITS = 2_000_000  # handed on together
COPIES = 1  # results of batches that may be on their way from the device


def stream(
    trained: Trained,
    sequences: Sequences,
    *,
    batch_size: int,
    precision: str = "fp32",
    what: str | None = None,
    at_least: int = 0,
    setting: str = "evaluate.batch_size (forward_batch_size from Python)",
) -> Iterator[Scores]:
    """Scores of all units of ``sequences`` in row order; all units of a row come together.

    Rows are sorted by length inside a window, so that a batch of ``batch_size`` rows holds little padding, and put
    back in order before the window is handed on, in pieces that bound the memory of whoever takes them. Batches are
    gathered in a thread while the model computes, and results are copied from a GPU one batch behind. ``what`` names
    the work in a progress bar, ``setting`` the batch size where one does not fit the device's memory. Logits that are
    not finite are an error.

    Where processes score together and each forward pass needs all of them (ZeRO-3), ``at_least`` is the most
    ``forward_passes`` of any: the rest are made idly, at the end.

    Raises:
        DeviceMemoryError: a batch does not fit.
        WorkFailedError: a logit is not finite.
    """
    model = trained.model
    model.eval()
    device = next(model.parameters()).device
    lengths = np.minimum(sequences.lengths, trained.max_length)
    widths = np.minimum(sequences.widths, trained.max_length)
    progress = Progress(len(sequences), what or "score")
    classes = len(trained.class_map)
    counts = trained.task.unit_counts(lengths).astype(np.int64)
    if not len(sequences):
        yield empty(classes)
    windows = list(_windows(lengths, counts * classes))
    gathered = (
        _gather(trained, sequences, window[inside], device)
        for window in windows
        for inside in _batches(widths[window], batch_size)
    )
    on_start = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
    with progress, Prefetcher(gathered, on_start=on_start) as coming:
        for window in windows:
            starts = np.concatenate([[0], np.cumsum(counts[window])])
            logits = np.empty((starts[-1], classes), np.float32)
            batches = _batches(widths[window], batch_size)
            found = ((rows, _forward(trained, next(coming), device, precision, setting)) for rows in batches)
            for rows in _into(logits, starts, found):
                check()
                if what is not None:
                    progress.update(rows)
            for piece in cut(counts[window] * classes, PIECE_LOGITS):
                part = logits[starts[piece[0]] : starts[piece[-1] + 1]]
                yield _scores(trained, sequences, window[piece], lengths[window[piece]], part)
    one = torch.full((1, 1), 1 if trained.pad_id == 0 else 0, device=device)
    for _ in range(at_least - forward_passes(trained, sequences.lengths, batch_size)):
        with torch.inference_mode(), _autocast(device, precision):
            model(input_ids=one, attention_mask=torch.ones_like(one))


def forward_passes(trained: Trained, lengths: np.ndarray, batch_size: int) -> int:
    """How many forward passes ``stream`` makes for rows of these lengths."""
    lengths = np.minimum(lengths, trained.max_length)
    logits = trained.task.unit_counts(lengths).astype(np.int64) * len(trained.class_map)
    return sum(-(-len(window) // batch_size) for window in _windows(lengths, logits))


def _windows(lengths: np.ndarray, logits: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive rows: at most ``WINDOW_ROWS``, and about ``WINDOW_TOKENS`` tokens and ``WINDOW_LOGITS`` logits."""
    share = lengths / WINDOW_TOKENS + logits / WINDOW_LOGITS
    for start in range(0, len(lengths), WINDOW_ROWS):
        for part in cut(share[start : start + WINDOW_ROWS], 1):
            yield start + part


def cut(sizes: np.ndarray, most: float) -> Iterator[np.ndarray]:
    """Indices of ``sizes`` in consecutive parts of ``most`` together, or of a single one that is larger."""
    total = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while start < len(sizes):
        end = max(start + 1, int(np.searchsorted(total, total[start] + most, side="right")) - 1)
        yield np.arange(start, end)
        start = end


@dataclass(frozen=True)
class _Batch:
    """``inputs`` of the model, and which of their places are ``tokens`` (None: all of them)."""

    inputs: dict[str, torch.Tensor]
    tokens: torch.Tensor | None


def _batches(widths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Rows of a window that are computed together, widest first."""
    order = np.argsort(-widths, kind="stable")
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def _gather(trained: Trained, sequences: Sequences, rows: np.ndarray, device: torch.device) -> _Batch:
    """A batch in the host's memory, pinned where a GPU copies it."""
    inputs = readable(trained.model, sequences.model_inputs(rows, trained.max_length, trained.pad_id))
    inputs = without_needless_mask(inputs, trained.model.config)
    shown = sequences.shown(rows, trained.max_length)
    tokens = None if shown.all() else np.flatnonzero(shown)

    def tensor(array: np.ndarray) -> torch.Tensor:
        made = torch.from_numpy(array)
        return made.pin_memory() if device.type == "cuda" else made

    made = {name: tensor(array) for name, array in inputs.items()}
    return _Batch(made, None if tokens is None else tensor(tokens))


def _forward(trained: Trained, batch: _Batch, device: torch.device, precision: str, setting: str) -> torch.Tensor:
    rows, length = batch.inputs["input_ids"].shape

    def words() -> str:
        return f"scoring {rows} rows of {length:,} tokens does not fit the memory of the GPU; lower {setting}"

    with explained_memory(words), torch.inference_mode(), _autocast(device, precision):
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
        tokens = None if batch.tokens is None else batch.tokens.to(device, non_blocking=True)
        return trained.task.units(trained.model(**inputs).logits, tokens).float()


def _into(logits: np.ndarray, starts: np.ndarray, found: Iterable[tuple[np.ndarray, torch.Tensor]]) -> Iterator[int]:
    """Put what was found for rows of a window where it belongs among its ``logits``; yields how many rows are done.

    A GPU computes the next batch while the results of one are copied.
    """
    copies: deque[tuple[np.ndarray, torch.Tensor, torch.cuda.Event | None]] = deque()

    def put() -> int:
        rows, copy, done = copies.popleft()
        if done is not None:
            done.synchronize()
        logits[_places(starts, rows)] = copy.numpy()
        return len(rows)

    for rows, result in found:
        copy = result.to("cpu", non_blocking=True)  # of a GPU: into pinned memory
        on_gpu = result.device.type == "cuda"
        copies.append((rows, copy, torch.cuda.current_stream(result.device).record_event() if on_gpu else None))
        if len(copies) > COPIES:
            yield put()
    while copies:
        yield put()


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, half, enabled=precision != "fp32")


def _places(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where the units of these rows lie among those of the window."""
    return ranges(starts[rows], starts[rows + 1] - starts[rows])


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``start, start + 1, …`` of each start, one after another."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _scores(
    trained: Trained, sequences: Sequences, window: np.ndarray, lengths: np.ndarray, logits: np.ndarray
) -> Scores:
    counts = trained.task.unit_counts(lengths)
    positions = ranges(np.zeros(len(counts), dtype=np.int64), counts).astype(np.int32)
    labels = np.full(len(logits), IGNORED, dtype=np.int64)
    if sequences.labelled:
        labels = np.concatenate([sequences.labels_of(i)[:n] for i, n in zip(window, counts, strict=True)])
    rows = np.repeat(sequences.rows[window], counts)
    _check_finite(rows, logits)
    return Scores(
        rows=rows,
        positions=positions,
        tokens=trained.task.unit_tokens([sequences.tokens_of(i)[:n] for i, n in zip(window, lengths, strict=True)]),
        logits=logits,
        labels=labels.astype(np.int64),
    )


def _check_finite(rows: np.ndarray, logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise WorkFailedError(
            f"the model's scores for row {rows[np.argmin(finite)]} are not finite: its weights are spoilt (training "
            "diverged; lower train.learning_rate) or its values leave the range of the precision (try fp32)"
        )
