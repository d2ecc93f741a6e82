"""Forward passes over a dataset: little padding, row order kept, memory bounded by a window of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..data.sequences import IGNORED, Sequences
from ..errors import WorkFailedError
from ..progress import Progress
from .load import Trained
from .scores import Scores, empty

WINDOW_TOKENS = 4_000_000  # rows sorted by length together
WINDOW_ROWS = 8192
WINDOW_LOGITS = 32_000_000
PIECE_LOGITS = 2_000_000  # handed on together


def stream(
    trained: Trained,
    sequences: Sequences,
    *,
    batch_size: int,
    precision: str = "fp32",
    what: str | None = None,
    at_least: int = 0,
) -> Iterator[Scores]:
    """Scores of all units of ``sequences`` in row order; all units of a row come together.

    Rows are sorted by length inside a window, so that a batch of ``batch_size`` rows holds little padding, and put
    back in order before the window is handed on, in pieces that bound the memory of whoever takes them. ``what``
    names the work in a progress bar. Logits that are not finite are an error.

    Where processes score together and each forward pass needs all of them (ZeRO-3), ``at_least`` is the most
    ``forward_passes`` of any: the rest are made idly, at the end.
    """
    model = trained.model
    model.eval()
    device = next(model.parameters()).device
    lengths = np.minimum(sequences.lengths, trained.max_length)
    progress = Progress(len(sequences), what or "score")
    classes = len(trained.class_map)
    counts = trained.task.unit_counts(lengths).astype(np.int64)
    if not len(sequences):
        yield empty(classes)
    with progress:
        for window in _windows(lengths, counts * classes):
            starts = np.concatenate([[0], np.cumsum(counts[window])])
            logits = np.empty((starts[-1], classes), np.float32)
            order = np.argsort(-lengths[window], kind="stable")
            for first in range(0, len(order), batch_size):
                inside = order[first : first + batch_size]
                found = _forward(trained, sequences, window[inside], device, precision)
                logits[_places(starts, inside)] = found
                if what is not None:
                    progress.update(len(inside))
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


def _forward(
    trained: Trained, sequences: Sequences, rows: np.ndarray, device: torch.device, precision: str
) -> np.ndarray:
    ids, mask = sequences.pad(rows, trained.max_length, trained.pad_id)
    on_device = torch.from_numpy(mask).to(device)
    with torch.inference_mode(), _autocast(device, precision):
        logits = trained.model(input_ids=torch.from_numpy(ids).to(device), attention_mask=on_device).logits
        return trained.task.units(logits, on_device).float().cpu().numpy()


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


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
