"""A model that a run has made, for who reads it without the run."""

from __future__ import annotations

from .. import storage
from ..errors import InputError
from ..registry.names import is_reference
from ..runs.folder import FITTING, RunFolder
from ..runs.made import difference
from ..storage.contents import identifying


def check_model(named: str) -> None:
    """InputError where this is the model folder of a finished run, and not what the run made.

    Other folders, names of a hub and versions of a registry are not asked.
    """
    if is_reference(named) or not storage.is_located(named):
        return
    url = storage.join(named)
    above, _, own = url.rpartition("/")
    _check(RunFolder(url, model_name=""), "")
    if above:
        _check(RunFolder(above), f"{own}/")


def _check(folder: RunFolder, inside: str) -> None:
    """``inside``: how names of files of the model begin in the marks."""
    marks = [mark for mark in (folder.mark(stage) for stage in FITTING) if mark is not None]
    files = {name: told for mark in marks for name, told in (mark.get("files") or {}).items()}
    names = identifying((name.removeprefix(inside) for name in files if name.startswith(inside)), lambda: None)
    if (name := difference(folder.url, {inside + name: files[inside + name] for name in names})) is not None:
        raise InputError(
            f"{folder.path(*name.split('/'))} is not what the run {folder.url} made: an earlier attempt or another "
            "program has written there. `sortase run` makes it again; a model that you have changed belongs in a "
            "folder of its own"
        )
