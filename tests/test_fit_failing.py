"""A training that fails while a checkpoint is under way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from makers import run_training, train_job
from sortase import storage
from sortase.errors import StorageError, WorkFailedError


def test_the_error_is_told_and_the_checkpoint_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(local: Path, url: str) -> None:
        time.sleep(0.1)
        upload(local, url)

    def report(step: int, metrics: Any) -> None:
        raise WorkFailedError("of a test")

    upload = storage.upload
    monkeypatch.setattr(storage, "upload", slow)
    job = train_job(save_steps=11, eval_strategy="epoch")  # an epoch has 12 steps
    with pytest.raises(WorkFailedError, match="of a test"):
        run_training(tmp_path, job, report=report)
    monkeypatch.undo()
    fitted, _ = run_training(tmp_path, job)
    assert fitted.summary["resumed_from"] == 11


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch tells it where a file may not grow: no OSError."""

    def full(*given: Any, **named: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 38848 vs 38736")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"cannot write a checkpoint to .*unexpected pos.*the disk is full"):
        run_training(tmp_path, train_job())
