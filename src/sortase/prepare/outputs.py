"""Where prepare writes: what is there already, and that nothing half-made stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import storage
from ..data.shards import INFO, STATE
from ..data.source import FolderSource, Source
from ..errors import ExistingOutputError, InputError
from ..runs.layout import DataPaths
from ..storage.contents import is_cache, is_litter
from .result import Prepared

MARK = "sortase.json"
_OURS = re.compile(r"(data-.*\.arrow|\..*\.partial|" + "|".join(map(re.escape, (INFO, STATE, MARK))) + ")")


class OutputPaths(DataPaths):
    """What the stage prepare writes: what is there already, and what is taken away again."""

    def check(self, source: Source) -> None:
        """The prefix must be a name, and the output must not be the input."""
        if not self.prefix or "/" in self.prefix or self.prefix.startswith("."):
            raise InputError(f"the prefix {self.prefix!r} must be a plain file name, without '/' and '.' at its start")
        if isinstance(source, FolderSource) and storage.join(source.name) == self.dataset:
            raise InputError(f"{self.dataset} is both input and output; choose another prefix or folder")

    def mark(self) -> dict[str, Any] | None:
        """What the finished dataset says about itself; None when there is none, or one that is not finished."""
        if not storage.exists(storage.join(self.dataset, STATE)):
            return None
        url = storage.join(self.dataset, MARK)
        found: dict[str, Any] = storage.read_json(url) if storage.exists(url) else {"inputs": None}
        return found

    def made(self) -> dict[str, Any]:
        """The mark of a dataset that is finished; MissingInputError where it is lost."""
        return dict(storage.read_json(storage.join(self.dataset, MARK)))

    def described(self) -> dict[str, Any] | None:
        """The finished prepare.json."""
        if not storage.exists(self.summary):
            return None
        found: dict[str, Any] = storage.read_json(self.summary)
        return found

    def is_current(self, inputs: str) -> bool:
        mark = self.mark()
        return mark is not None and mark["inputs"] == inputs and storage.exists(self.class_map)

    def refuse_others(self, inputs: str, whole: str | None) -> None:
        """ExistingOutputError when something made from other inputs is there."""
        remedy = "Ask for replacement (--replace, replace=True), or choose another name"
        mark = self.mark()
        if mark is not None and mark["inputs"] is None:
            raise ExistingOutputError(
                f"{self.dataset} exists without {MARK}: it lost that file, or prepare did not make it. {remedy}"
            )
        if mark is not None and mark["inputs"] != inputs:
            raise ExistingOutputError(f"{self.dataset} exists and was made from other inputs or settings. {remedy}")
        described = self.described() if whole else None
        if described is not None and described.get("inputs") != whole:
            raise ExistingOutputError(f"{self.summary} exists and tells of other inputs or settings. {remedy}")

    def clear(self) -> None:
        """Remove the dataset and its class map; a folder with files that prepare does not write is refused."""
        for name in storage.list_files(self.dataset) if storage.exists(self.dataset) else []:
            if not (_OURS.fullmatch(name) or is_litter(name) or is_cache(name)):
                raise ExistingOutputError(
                    f"{self.dataset} holds {name}, which prepare did not write; choose another prefix"
                )
        self._remove(storage.join(self.dataset, STATE), self.dataset, self.class_map, self.class_map_json)

    def _remove(self, *urls: str) -> None:
        for url in urls:
            storage.remove(url)

    @contextmanager
    def dataset_or_nothing(self) -> Iterator[None]:
        with storage.removed_on_failure(self.dataset, self.class_map, self.class_map_json):
            yield

    @contextmanager
    def split_or_nothing(self) -> Iterator[None]:
        with storage.removed_on_failure(self.summary, self.split):
            yield

    def result(self, summary: dict[str, Any], split: bool, inputs: str, skipped: bool = False) -> Prepared:
        return Prepared(self.dataset, self.class_map, self.split if split else None, summary, inputs, skipped)
