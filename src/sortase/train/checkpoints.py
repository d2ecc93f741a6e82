"""Checkpoints in the run folder: files first, their manifest last; what has no verified manifest does not exist.

Every rank uploads the files that it wrote itself and lists them in a part of its own; rank 0 joins the parts to the
manifest once all are there. They find each other through storage alone, so that no rank waits while it trains.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import InputError, MissingInputError, StorageError
from ..storage.members import member
from .ranks import Ranks

MANIFEST = "manifest.json"
PART_SECONDS = 900.0  # how long rank 0 waits for the files of the others
LOOK_SECONDS = 0.25


class DamagedError(StorageError):
    """A file of a checkpoint is not what was written."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _is_whole(checkpoint: Checkpoint) -> bool:
    """Whether a manifest has the form of one, and is that of its folder."""
    files = checkpoint.files.values() if isinstance(checkpoint.files, dict) else [None]
    return (
        type(checkpoint.step) is int
        and checkpoint.url.endswith(f"/{_name(checkpoint.step)}")
        and (checkpoint.metric is None or (type(checkpoint.metric) in (int, float) and isfinite(checkpoint.metric)))
        and isinstance(checkpoint.start, str)
        and all(isinstance(told, dict) and {"size", "sha256"} <= told.keys() for told in files)
        and all(type(told["size"]) is int and type(told["sha256"]) is str for told in files)
    )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with a manifest. ``metric`` is the value that chooses the best one, higher is better.

    Its files lie below ``start``, a folder of the attempt that wrote them; ``training`` names what was trained.
    """

    step: int
    url: str
    files: dict[str, dict[str, Any]]
    metric: float | None
    start: str = ""
    training: str | None = None

    def download(self, folder: Path) -> Path:
        """Copy the files to a local folder and verify them; DamagedError names the first that is not as written."""
        shutil.rmtree(folder, ignore_errors=True)
        source = storage.join(self.url, MANIFEST)
        try:
            place = member(self.url, self.start, source) if self.start else self.url
            urls = {name: member(place, name, source) for name in self.files}
        except InputError as error:
            raise DamagedError(str(error)) from error
        for name, expected in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.download(urls[name], target)
            if target.stat().st_size != expected["size"] or _sha256(target) != expected["sha256"]:
                raise DamagedError(f"{name} of checkpoint {self.url} is not what was written")
        return folder


@dataclass(frozen=True)
class Damaged:
    """A checkpoint whose manifest says nothing, and why."""

    url: str
    why: str


def _best(found: list[Checkpoint | Damaged]) -> Checkpoint | None:
    """The one with the highest metric, the earliest among equals; None where none was evaluated."""
    whole = [each for each in found if isinstance(each, Checkpoint)]
    rated = [(-each.metric, each.step, each) for each in whole if each.metric is not None]
    return min(rated, key=lambda one: one[:2])[2] if rated else None


class Checkpoints:
    """Checkpoints below one URL. Publication runs beside training; at most one is under way.

    ``fence`` is called before anything is written and raises when another attempt owns the run.
    ``waited`` adds up the seconds for which training had to wait for storage. All of ``ranks`` make an object alike
    and call its methods alike. ``training`` names what is trained: checkpoints of another training do not exist.
    """

    def __init__(
        self,
        url: str,
        keep: int | None,
        fence: Callable[[], None],
        ranks: Ranks | None = None,
        training: str | None = None,
    ):
        self.url = url
        self.training = training
        self.keep = keep
        self.waited = 0.0
        self.ranks = ranks or Ranks()
        self._fence = fence
        self._start = self.ranks.first(uuid.uuid4().hex)
        found = storage.list_files(url) if self.ranks.is_first else {}
        self._earlier = {tuple(name.split("/")[:2]) for name in found if name.startswith("step-")}
        self._own: set[str] = set()
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
        url, start = storage.join(self.url, _name(step)), self._start[:12]
        self._fence()
        self._own.add(_name(step))
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
            storage.upload(path, storage.join(url, start, *name.split("/")))
        if self.ranks.is_first:
            for part in self._parts(url):
                files |= part
            self._fence()
            manifest = {
                "step": step,
                "metric": metric,
                "start": start,
                "training": self.training,
                "files": files,
            }
            if not storage.claim_json(storage.join(url, MANIFEST), manifest):  # a later attempt's, or one before ours
                self._fence()
                storage.write_json(storage.join(url, MANIFEST), manifest)
            for name, below in self._earlier:
                if name == _name(step) and below not in (start, MANIFEST):
                    storage.remove(storage.join(url, below))
            self._prune(step)
        else:
            storage.write_json(storage.join(url, self._part(self.ranks.rank)), files)
        shutil.rmtree(folder)

    def _part(self, rank: int) -> str:
        """The name holds this start of the ranks, so that a part of an earlier one is never taken for it."""
        return f"part-{self._start}-{rank:05d}.json"

    def _parts(self, url: str) -> list[dict[str, Any]]:
        """The file lists of all other ranks, once they are there; they are removed then."""
        names = {self._part(rank) for rank in range(1, self.ranks.world_size)}
        deadline = time.monotonic() + PART_SECONDS
        while names and not names <= storage.list_files(url).keys():
            if time.monotonic() > deadline:
                missing = sorted(names - storage.list_files(url).keys())
                raise StorageError(f"checkpoint {url} has waited {PART_SECONDS:.0f} s for {missing}")
            time.sleep(LOOK_SECONDS)
        parts = [storage.read_json(storage.join(url, name)) for name in sorted(names)]
        for name in names:
            storage.remove(storage.join(url, name))
        return parts

    def all(self) -> list[Checkpoint | Damaged]:
        """Checkpoints with a manifest, newest first."""
        found = [self._read(storage.join(self.url, name)) for name in sorted(self._names(), reverse=True)]
        return [each for each in found if each is not None]

    def _names(self) -> set[str]:
        return {name.split("/")[0] for name in storage.list_files(self.url) if name.startswith("step-")}

    def _is_ours(self, checkpoint: Checkpoint) -> bool:
        return self.training is None or checkpoint.training in (None, self.training)

    def _read(self, url: str) -> Checkpoint | Damaged | None:
        source = storage.join(url, MANIFEST)
        try:
            manifest = storage.read_json(source)
            found = Checkpoint(
                manifest["step"],
                url,
                manifest["files"],
                manifest["metric"],
                manifest.get("start", ""),
                manifest.get("training"),
            )
        except MissingInputError:  # it is being written, or never was
            return None
        except InputError as error:
            return Damaged(url, str(error))
        except (KeyError, TypeError, AttributeError) as error:
            return Damaged(url, f"{source} is not a manifest of a checkpoint: {type(error).__name__} {error}")
        if not _is_whole(found):
            return Damaged(url, f"{source} is not the manifest of that checkpoint")
        return found if self._is_ours(found) else None

    def best(self) -> Checkpoint | None:
        """The one with the highest metric; DamagedError where that may be one whose manifest is damaged."""
        found = self.all()
        for each in found:
            if isinstance(each, Damaged):
                raise DamagedError(
                    f"{each.why}; whether that checkpoint was the best is not known. Remove {each.url} to go on "
                    "without it"
                )
        return _best(found)

    def newest(self, folder: Path, log: Callable[[str], None]) -> tuple[Checkpoint, Path] | None:
        """The newest checkpoint whose files verify, copied once to each node; damaged ones are named and passed over.

        All ranks get the same one, or None.
        """
        folder = self.ranks.of_node(folder)
        for checkpoint in self.ranks.first(self.all() if self.ranks.is_first else None):
            if isinstance(checkpoint, Damaged):
                if self.ranks.is_first:
                    log(f"a checkpoint is damaged, going back to the one before: {checkpoint.why}")
                continue
            problems = [text for text in self.ranks.gather(self._fetch(checkpoint, folder)) if text is not None]
            if not problems:
                return checkpoint, folder
            if self.ranks.is_first:
                log(f"checkpoint of step {checkpoint.step} is damaged, going back to the one before: {problems[0]}")
                storage.remove(checkpoint.url)
        return None

    def _fetch(self, checkpoint: Checkpoint, folder: Path) -> str | None:
        """Copy it where this rank does so for its node; what is wrong with it, in words."""
        if not self.ranks.leads_node():
            return None
        try:
            checkpoint.download(folder)
        except (DamagedError, FileNotFoundError) as error:
            return str(error)
        return None

    def _prune(self, step: int) -> None:
        """Keep the newest ``keep`` and the best; remove the others, and what never got a manifest.

        What lies beyond ``step`` other ranks may be writing already. What was neither there at the start nor is ours
        may be a later attempt's.
        """
        if self.keep is None:
            return
        found = self.all()
        whole = [each for each in found if isinstance(each, Checkpoint)]
        damaged = [each for each in found if isinstance(each, Damaged)]
        kept = {each.url for each in (*whole[: self.keep], _best(found), *damaged) if each is not None}
        for name in self._names() & (self._own | {name for name, *_ in self._earlier}):
            url = storage.join(self.url, name)
            if name <= _name(step) and url not in kept:
                storage.remove(url)
