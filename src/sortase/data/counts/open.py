"""Which files ``tokenize.input`` means, what each of them is, and all of them as one matrix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase

from ... import storage
from ...config.tokenize import TokenizeSpec
from ...errors import InputError
from ...storage.scratch import Scratch
from .counts import Asked, Counts
from .joined import join
from .remote_path import RemotePath, remote_path

FILE = "file"
HDF5 = (".h5ad", ".h5", ".hdf5", ".loom")
ZARR = (".zarr", ".zarr.zip")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")
_ZARR_GROUP = (".zgroup", "zarr.json")
_PATTERN = re.compile(r"[*?[]")
_READ = (
    f"AnnData (.h5ad, .zarr, .zarr.zip), Cell Ranger's .h5 or the folder of its matrix.mtx.gz, .loom, or a table of "
    f"counts ({', '.join(TABLES)})"
)


def input_urls(spec: TokenizeSpec) -> list[str]:
    """The files, or folders that are read as one, in the order of the list; those of a folder or a pattern by name.

    Raises MissingInputError, and InputError for a file that is given twice and folders of files of several kinds.
    """
    given = [spec.input] if isinstance(spec.input, str) else spec.input
    urls = [url for item in given for url in _expanded(item)]
    twice = next((url for number, url in enumerate(urls) if url in urls[:number]), None)
    if twice is not None:
        raise InputError(f"tokenize.input names {twice} twice; its cells would be there twice")
    return urls


def in_words(given: str | list[str]) -> str:
    return given if isinstance(given, str) else ", ".join(given)


def labels_of(urls: list[str]) -> list[str]:
    """What tells the files apart: their paths below the folder that all of them lie in."""
    if len(urls) == 1:
        return [urls[0].rstrip("/").rpartition("/")[2]]
    parts = [(url if storage.is_remote(url) else str(storage.local_path(url))).rstrip("/").split("/") for url in urls]
    common = next((i for i, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), 0)
    return ["/".join(part[common:]) for part in parts]


def _expanded(url: str) -> list[str]:
    if _PATTERN.search(url) and not storage.exists(url):
        return _matching(url)
    if _kind_by_name(url) is not None and not url.endswith("/"):
        return [url]  # whether it is there says who opens it
    names = storage.list_files(url)
    if not names or "" in names or _kind_of_folder(names) is not None:
        return [url]
    return _units(url, names)


def _matching(url: str) -> list[str]:
    """Files and folders whose path fits, part by part: no part of a pattern stands for a slash."""
    parts = url.split("/")
    first = next(number for number, part in enumerate(parts) if _PATTERN.search(part))
    base, wanted = "/".join(parts[:first]) or ("/" if url.startswith("/") else "."), parts[first:]
    found = set()
    for name in storage.list_files(base):
        own = name.split("/")[: len(wanted)]
        if len(own) == len(wanted) and all(map(fnmatchcase, own, wanted)):
            found.add(storage.join(base, *own))
    if not found:
        raise InputError(f"{url} fits no file: {base} holds {sorted(_children(storage.list_files(base)))[:10]}")
    return sorted(found)


def _units(url: str, names: Iterable[str]) -> list[str]:
    """The files of counts in a folder, and the folders in it that are read as one; all of them of one kind."""
    kinds = {}
    for child, inside in _children(names).items():
        kind = _kind_by_name(child) if inside == [""] else _kind_of_folder(inside)
        if kind is not None:
            kinds[child] = kind
    if not kinds:
        raise InputError(f"{url} holds nothing that is read: {sorted(_children(names))[:10]}; expected {_READ}")
    if len(set(kinds.values())) > 1:
        raise InputError(
            f"{url} holds counts of several kinds: {sorted(kinds)[:10]}; say which ones are meant, such as {url}/*.h5ad"
        )
    return [storage.join(url, child) for child in sorted(kinds)]


def _children(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        child, _, inside = name.partition("/")
        found.setdefault(child, []).append(inside)
    return found


def _kind_by_name(url: str) -> str | None:
    name = url.rstrip("/").rpartition("/")[2].lower()
    if name.endswith(ZARR):
        return "zarr"
    return "hdf5" if name.endswith(HDF5) else "table" if name.endswith(TABLES) else None


def _kind_of_folder(names: Iterable[str]) -> str | None:
    """By its own files: a zarr group, or the three files of Cell Ranger."""
    own = {name for name in names if "/" not in name}
    if own & set(_ZARR_GROUP):
        return "zarr"
    return "mtx" if any(name.lower().endswith(("matrix.mtx", "matrix.mtx.gz")) for name in own) else None


@contextmanager
def open_counts(spec: TokenizeSpec, *, head: bool = False) -> Iterator[Counts]:
    """Open all that ``spec.input`` means as one matrix; what does not lie by rows is laid out so in a temporary folder.

    ``head``: that takes no time, and the matrix has the first cells at most; names and columns are complete. What is
    remote stays there, and little of it is read.

    Raises MissingInputError, InputError for files of another kind, MissingExtraError where a library is missing.
    """
    urls = input_urls(spec)
    labels = labels_of(urls)
    with ExitStack() as stack:
        scratch = stack.enter_context(Scratch("counts"))
        files = []
        for number, url in enumerate(urls):
            folder = scratch / str(number)
            folder.mkdir()
            path = remote_path(url) if head and storage.is_remote(url) else storage.fetch(url)
            asked = Asked(path=path, name=url, spec=spec, scratch=folder, head=head, among=len(urls) > 1)
            files.append(stack.enter_context(_reader(asked)(asked)))
        column = spec.file_column or (FILE if len(urls) > 1 else None)
        yield files[0] if column is None else join(files, labels, column, asked)


def _reader(asked: Asked) -> Callable[[Asked], AbstractContextManager[Counts]]:
    kind = _kind_by_name(asked.path.name)
    if asked.path.is_dir():
        names = asked.path.sizes if isinstance(asked.path, RemotePath) else storage.list_files(str(asked.path))
        kind = _kind_of_folder(names)
    if kind == "hdf5":
        from .hdf5_open import open_hdf5

        return open_hdf5
    if kind == "table":
        from .tables import read_table

        return lambda asked: nullcontext(read_table(asked))
    if kind == "mtx":
        from .mtx import read_mtx

        return lambda asked: nullcontext(read_mtx(asked))
    if kind == "zarr":
        from .zarr_file import open_zarr

        return open_zarr
    raise InputError(f"{asked.name} is nothing that is read as counts; expected {_READ}")
