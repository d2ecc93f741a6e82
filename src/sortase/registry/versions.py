"""Versions of a model: folders in the registry that nobody changes once their ``version.json`` is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from .. import storage
from ..config.registry import NAME
from ..errors import InputError, MissingInputError
from ..storage.contents import identifying
from ..storage.hashing import sha256_of
from ..storage.members import member
from .names import VERSION

RECORD, FORMAT = "version.json", 1
_NEEDED = ("run", "task", "classes", "vocabulary", "metrics", "lineage", "files", "registered", "context")


@dataclass(frozen=True)
class Version:
    """``record`` is version.json: files with sizes and SHA-256, metrics, lineage, who registered it and when."""

    url: str
    name: str
    record: dict[str, Any]

    @property
    def model(self) -> str:
        """What transformers loads."""
        return storage.join(self.url, "model")

    def path(self, *parts: str) -> str:
        return storage.join(self.url, *parts)

    @cached_property
    def classes(self) -> dict[str, int]:
        return dict(self.record["classes"])

    def _files(self) -> dict[str, dict[str, Any]]:
        source = self.path(RECORD)
        for name, told in dict(self.record["files"]).items():
            member(self.url, name, source)
            if not isinstance(told, dict) or {type(told.get("size")), type(told.get("sha256"))} != {int, str}:
                raise InputError(f"{source} does not tell the size and SHA-256 of {name!r}")
        return dict(self.record["files"])

    def check(self) -> None:
        """InputError when a file is missing or has another size; contents are looked at by ``verify``."""
        found = storage.list_files(self.url)
        for name, told in self._files().items():
            if name not in found:
                raise InputError(f"version {self.name} is damaged: {self.path(*name.split('/'))} is missing")
            if found[name].size != told["size"]:
                raise InputError(
                    f"version {self.name} is damaged: {self.path(*name.split('/'))} has {found[name].size} bytes, "
                    f"{told['size']} were registered"
                )

    def verify(self) -> None:
        """Read every file and compare it with what was registered; InputError names the first that differs."""
        self.check()
        for name, told in self._files().items():
            url = self.path(*name.split("/"))
            if sha256(url) != told["sha256"]:
                raise InputError(f"version {self.name} is damaged: {url} is not what was registered")

    def verify_copy(self, folder: Path) -> None:
        """Compare this machine's copy of ``model`` with what was registered. Its files are read once for each copy.

        Raises:
            InputError: a file that is loaded is another one, or was not registered.
        """
        self.check()
        registered = self._files()
        there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for name in sorted(identifying(there, dict)):
            told = registered.get(f"model/{name}")
            if told is None or sha256_of(folder / name) != told["sha256"]:
                raise InputError(
                    f"version {self.name} is damaged: {self.path('model', name)} is not what was registered"
                )


def sha256(url: str) -> str:
    with storage.open_input(url) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def described(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a local folder, by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(str(path))}
        for path in files
    }


def version_names(model_url: str) -> list[str]:
    """Complete versions, oldest first."""
    found = storage.list_files(storage.join(model_url, "versions"))
    return sorted(name.split("/")[0] for name in found if name.count("/") == 1 and name.endswith(f"/{RECORD}"))


def find(model_url: str, wanted: str) -> Version:
    """A version by its name or by the eight characters that end it."""
    known: list[str] = []
    name: str | None = wanted
    if not VERSION.fullmatch(wanted):
        known = version_names(model_url)
        name = next((each for each in known if each.endswith(f"-{wanted}")), None)
    found = read(model_url, name) if name else None
    if found is None:
        known = known or version_names(model_url)
        shown = ", ".join(known[-5:]) or "none"
        raise MissingInputError(f"{model_url} has no version {wanted!r}; the newest it has are: {shown}")
    return found


def read(model_url: str, name: str) -> Version | None:
    if not NAME.fullmatch(name):
        raise MissingInputError(f"{name!r} is not the name of a version of {model_url}")
    url = storage.join(model_url, "versions", name)
    record = storage.join(url, RECORD)
    if not storage.exists(record):
        return None
    told = storage.read_json(record)
    if not isinstance(told, dict) or not isinstance(told.get("files", {}), dict):
        raise InputError(f"{record} is not the record of a version: its files are not described by name")
    if lacking := [key for key in _NEEDED if key not in told]:
        raise InputError(f"{record} is not the record of a version: it lacks {', '.join(lacking)}")
    if told.get("format", FORMAT) > FORMAT:
        raise InputError(
            f"{record} is of a later form ({told['format']}) than this sortase reads ({FORMAT}); update it"
        )
    return Version(url, name, told)


def versions(model_url: str) -> Iterator[Version]:
    """All complete versions, newest first."""
    for name in reversed(version_names(model_url)):
        found = read(model_url, name)
        if found is not None:
            yield found
