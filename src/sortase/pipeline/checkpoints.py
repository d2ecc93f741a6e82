"""Checkpoints in the run folder: files first, their manifest last; what has no verified manifest does not exist."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import StorageError

MANIFEST = "manifest.json"


class DamagedError(StorageError):
    """A file of a checkpoint is not what was written."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with a manifest. ``metric`` is the value that chooses the best one, higher is better."""

    step: int
    url: str
    files: dict[str, dict[str, Any]]
    metric: float | None

    def download(self, folder: Path) -> Path:
        """Copy the files to a local folder and verify them; DamagedError names the first that is not as written."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, expected in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.download(storage.join(self.url, *name.split("/")), target)
            if target.stat().st_size != expected["size"] or _sha256(target) != expected["sha256"]:
                raise DamagedError(f"{name} of checkpoint {self.url} is not what was written")
        return folder


class Checkpoints:
    """Checkpoints below one URL. Publication runs beside training; at most one is under way.

    ``fence`` is called right before a manifest is written and raises when another attempt owns the run.
    ``waited`` adds up the seconds for which training had to wait for storage.
    """

    def __init__(self, url: str, keep: int | None, fence: Callable[[], None]):
        self.url = url
        self.keep = keep
        self.waited = 0.0
        self._fence = fence
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def publish(self, folder: Path, step: int, metric: float | None) -> None:
        """Take over a local folder and store it as this step's checkpoint."""
        self.wait()
        mine = folder.rename(folder.with_name(f"publishing-{folder.name}"))
        self._pending = self._pool.submit(self._store, mine, step, metric)

    def wait(self) -> None:
        """Until nothing is under way; raises what went wrong there."""
        if self._pending is None:
            return
        started = time.monotonic()
        pending, self._pending = self._pending, None
        try:
            pending.result()
        finally:
            self.waited += time.monotonic() - started

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _store(self, folder: Path, step: int, metric: float | None) -> None:
        url = storage.join(self.url, _name(step))
        storage.remove(url)
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
            storage.upload(path, storage.join(url, *name.split("/")))
        self._fence()
        manifest = {"step": step, "metric": metric, "files": files}
        storage.write_json(storage.join(url, MANIFEST), manifest)
        shutil.rmtree(folder)
        self._prune()

    def all(self) -> list[Checkpoint]:
        """Checkpoints with a readable manifest, newest first."""
        if not storage.exists(self.url):
            return []
        names = self._names()
        found = [self._read(storage.join(self.url, name)) for name in sorted(names, reverse=True)]
        return [checkpoint for checkpoint in found if checkpoint is not None]

    def _names(self) -> set[str]:
        return {name.split("/")[0] for name in storage.list_files(self.url) if name.startswith("step-")}

    def _read(self, url: str) -> Checkpoint | None:
        try:
            manifest = storage.read_json(storage.join(url, MANIFEST))
            return Checkpoint(manifest["step"], url, manifest["files"], manifest["metric"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def best_first(self) -> list[Checkpoint]:
        """Those with a metric, the highest first, the earliest first among equals."""
        rated = [(checkpoint.metric, checkpoint) for checkpoint in self.all() if checkpoint.metric is not None]
        return [checkpoint for _, checkpoint in sorted(rated, key=lambda pair: (-pair[0], pair[1].step))]

    def newest(self, folder: Path, say: Callable[[str], None]) -> tuple[Checkpoint, Path] | None:
        """The newest checkpoint whose files verify, copied to a folder; damaged ones are named and passed over."""
        for checkpoint in self.all():
            try:
                return checkpoint, checkpoint.download(folder)
            except (DamagedError, FileNotFoundError) as error:
                say(f"checkpoint of step {checkpoint.step} is damaged, going back to the one before: {error}")
                storage.remove(checkpoint.url)
        return None

    def _prune(self) -> None:
        """Keep the newest ``keep`` and the best; remove the others, and what never got a manifest."""
        if self.keep is None:
            return
        kept = {checkpoint.url for checkpoint in self.all()[: self.keep] + self.best_first()[:1]}
        for url in (storage.join(self.url, name) for name in self._names()):
            if url not in kept:
                storage.remove(url)
