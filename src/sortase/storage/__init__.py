"""The one door to files: local paths and any fsspec URL behave alike.

Writes are all or nothing: a reader sees the whole new file or what was there before. Passing faults of a service are
repeated; what remains is a StorageError (the service) or a MissingInputError (the path).
Endpoint and region of S3 come from the one setting of this process (`configure`), else, like the credentials always,
from the usual AWS environment variables and files.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

from ..config.storage import StorageSpec
from ..errors import InputError, MissingInputError, SortaseError, StorageError
from ..stopping import check
from ..text import decode
from .cache import cached
from .cache_entries import release_all
from .contents import STATE, identifying, needed
from .hashing import sha256_of, sha256_of_all
from .local import DISK_FAULTS, create_local, is_whole, local_output, naming_faults
from .retry import Repeating, ReplacedError, attempt, create_remote, silence
from .retry import impatiently as impatiently
from .s3 import bounded, sent_once
from .scratch import Scratch
from .written import Written, forget, note, note_file

BLOCK = 8 * 2**20
PART = 2**18  # of a file of which little is read, here and there
COPIES = 3
PARTS = 3  # of 50 MB that are sent at once: each is in memory twice


@dataclass(frozen=True)
class FileInfo:
    """``version`` changes when the content does: an ETag, or the time of the last change."""

    size: int
    version: str


def is_remote(url: str) -> bool:
    return "://" in url and not url.startswith("file://")


def local_path(url: str) -> Path:
    """The absolute path that a local path or ``file://`` URL means."""
    if is_remote(url):
        raise InputError(f"{url} is not on this machine; a local path is needed here")
    try:
        return Path(url.removeprefix("file://")).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(f"{url} begins with the home folder of a user whom this machine does not know") from error


def absolute(url: str) -> str:
    """A local path that means the same from any folder and in any process of this machine; a URL stays as it is."""
    return url if is_remote(url) else str(local_path(url))


def is_located(name: str) -> bool:
    """Whether it is a path or a URL, and no name of a hub: by its form, whatever lies there, else by what is there."""
    return is_remote(name) or name.startswith((".", "/", "~", "file://")) or _is_there(local_path(name))


def located(name: str) -> str:
    """``absolute`` for what is here; names of a hub stay as they are."""
    return absolute(name) if is_located(name) else name


def join(url: str, *parts: str) -> str:
    if is_remote(url):
        return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])
    return str(local_path(url).joinpath(*(part.strip("/") for part in parts)))


class _Setting:
    """What this process was told of object storage. ``before`` is the user's own configuration of fsspec."""

    spec: ClassVar[StorageSpec] = StorageSpec()
    before: ClassVar[dict[str, Any] | None] = None


def configure(spec: StorageSpec) -> None:
    """Make all of this process reach object storage so: this module, and whoever opens ``s3://`` with fsspec.

    Every process needs it once, Ray's workers too; an empty spec goes back to the environment. Credentials are not
    part of it: only where they are looked for.
    """
    from fsspec.config import conf

    if _Setting.before is None:
        _Setting.before = dict(conf.get("s3", {}))
    _Setting.spec = spec
    if options := {**_Setting.before, **_options(spec)}:
        conf["s3"] = options
    else:
        conf.pop("s3", None)


def configured() -> StorageSpec:
    """The setting of this process, to be handed to others."""
    return _Setting.spec


def _options(spec: StorageSpec) -> dict[str, Any]:
    """The setting as s3fs takes it; what is left out is not overridden."""
    options: dict[str, Any] = {}
    if spec.endpoint:
        options["endpoint_url"] = spec.endpoint
    if spec.region:
        options["client_kwargs"] = {"region_name": spec.region}
    if spec.anonymous:
        options["anon"] = True
    if spec.addressing != "auto":
        options["config_kwargs"] = {"s3": {"addressing_style": spec.addressing}}
    if spec.profile:
        options["profile"] = spec.profile
    if spec.credentials_file:
        path = str(Path(spec.credentials_file).expanduser())
        options["session_vars"] = {"credentials_file": (None, None, path, None)}
        options["profile"] = spec.profile or "default"  # a named profile goes before keys in the environment
    return options


def _is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


def storage_options(url: str) -> dict[str, Any]:
    """For ``storage_options=`` of datasets, pandas and others that open the URL by fsspec; nothing secret in it."""
    return _options(_Setting.spec) if _is_s3(url) else {}


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """A ``pyarrow.fs`` file system and the path in it, for pyarrow and for Ray's storage; it can be pickled.

    pyarrow's own S3 client is not used: it reads other settings than fsspec does.
    """
    from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

    if not is_remote(url):
        return LocalFileSystem(), str(local_path(url))
    filesystem, path = _opened(url, {**storage_options(url), **({"use_listings_cache": False} if _is_s3(url) else {})})
    return PyFileSystem(FSSpecHandler(filesystem)), path.rstrip("/")


def _filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it; listings are never cached, others write too.

    Of S3 a request is sent once, and given up when nothing comes for a while: all repeats are those of ``attempt``.
    """
    if not _is_s3(url):
        return _opened(url, {})
    options = storage_options(url)
    seconds = silence()
    options |= {
        "use_listings_cache": False,
        "max_concurrency": PARTS,
        "config_kwargs": {**options.get("config_kwargs", {}), **sent_once(seconds)},
    }
    filesystem, path = _opened(url, options)
    bounded(filesystem, seconds)
    return filesystem, path


def _opened(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url} is not a storage URL that can be opened: {error}") from error


def _remote(url: str, what: str, work: Any, size: int = 0) -> Any:
    """Run ``work(filesystem, path)`` with repeats; ``size`` in bytes of what it moves."""
    opened = None if _is_s3(url) else _filesystem(url)  # how patient a request to S3 is may change between two
    try:
        return attempt(lambda: work(*(opened or _filesystem(url))), what, url, size)
    except MissingInputError as error:
        raise MissingInputError(f"{error}{_near(url)}") from error.__cause__


def exists(url: str) -> bool:
    if not is_remote(url):
        return _is_there(local_path(url))
    return bool(_remote(url, "look for", lambda fs, path: _kind(fs, path) is not None))


def _is_there(path: Path) -> bool:
    with naming_faults("look for", path):
        return path.exists()


def is_dir(url: str) -> bool:
    if not is_remote(url):
        path = local_path(url)
        with naming_faults("look for", path):
            return path.is_dir()
    return bool(_remote(url, "look for", lambda fs, path: _kind(fs, path) == "directory"))


def _kind(filesystem: Any, path: str) -> str | None:
    """``exists()`` of fsspec takes every error for a no; this one asks and lets errors through."""
    try:
        return str(filesystem.info(path)["type"])
    except FileNotFoundError:
        return None


def list_files(url: str) -> dict[str, FileInfo]:
    """All files below a folder by their relative path; a file itself has the empty path. Nothing there: empty."""
    if is_remote(url):
        return dict(_remote(url, "list", _list_remote))
    root, found = local_path(url), {}
    with naming_faults("list", root):
        for path in [root] if root.is_file() else sorted(_files_below(root)):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed by another process since it was listed
                continue
            name = "" if path == root else path.relative_to(root).as_posix()
            found[name] = FileInfo(status.st_size, str(status.st_mtime_ns))
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """``Path.rglob`` passes over what it may not read."""

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for parent, _, names in os.walk(folder, onerror=refused):
        yield from (path for path in (Path(parent, name) for name in names) if is_whole(path))


def _list_remote(filesystem: Any, path: str) -> dict[str, FileInfo]:
    entries = filesystem.find(path, detail=True)
    found = {}
    for name, info in sorted(entries.items()):
        version = info.get("ETag") or info.get("LastModified") or info.get("mtime") or info.get("created") or ""
        relative = name[len(path.rstrip("/")) :].lstrip("/")
        if info["type"] == "file" and not name.endswith("/"):
            found[relative] = FileInfo(int(info["size"]), str(version).strip('"'))
    return found


@contextmanager
def open_input(url: str) -> Iterator[BinaryIO]:
    """A seekable binary file to read."""
    with _open_remote(url) if is_remote(url) else _open_local(url) as file:
        yield file


def _open_local(url: str) -> BinaryIO:
    path = require(url)
    if path.is_dir():
        raise InputError(f"{url} is a folder where a file is expected")
    with naming_faults("read", path):
        return path.open("rb")


def open_parts(url: str) -> BinaryIO:
    """A remote file of which little is read, here and there; 64 MiB of it are kept in memory."""
    return _open_remote(url, block_size=PART, cache_type="blockcache", cache_options={"maxblocks": (64 << 20) // PART})


def read_parts(url: str, parts: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Bytes of remote files of a folder, each by its name, where they begin and where they end; many at once."""

    def read(filesystem: Any, path: str) -> list[bytes]:
        names, starts, ends = ([*values] for values in zip(*parts, strict=True))
        paths = [f"{path.rstrip('/')}/{name}" for name in names]
        return list(filesystem.cat_ranges(paths, starts, ends, on_error="raise"))

    return list(_remote(url, "read", read, sum(end - start for _, start, end in parts))) if parts else []


def _open_remote(url: str, **reading: Any) -> BinaryIO:
    opened = _remote(url, "read", lambda fs, path: fs.open(path, "rb", **{"block_size": BLOCK, **reading}))
    if getattr(opened, "details", {}).get("type") == "directory":
        raise InputError(f"{url} is a folder where a file is expected")
    return cast(BinaryIO, io.BufferedReader(Repeating(opened, url)))


@contextmanager
def open_output(url: str) -> Iterator[BinaryIO]:
    """A binary file to write; nothing of it is visible under ``url`` unless the block ends without an exception.

    Remote files are written locally first and sent whole, so that a failing send can be repeated.
    """
    if not is_remote(url):
        with local_output(local_path(url), partial(note_file, join(url))) as file:
            yield file
        return
    with Scratch("write") as folder:
        path = folder / "file"
        with naming_faults("write", path, DISK_FAULTS), path.open("wb") as file:
            yield file
        upload(path, url)


def read_bytes(url: str) -> bytes:
    if not is_remote(url):
        with _open_local(url) as file:
            return file.read()
    return bytes(_remote(url, "read", lambda fs, path: fs.cat_file(path)))


def write_bytes(url: str, data: bytes) -> None:
    if is_remote(url):
        _remote(url, "write", lambda fs, path: fs.pipe_file(path, data), len(data))
        note({join(url): Written.of(io.BytesIO(data))})
        return
    with open_output(url) as file:
        file.write(data)


def create_bytes(url: str, data: bytes) -> bool:
    """Write a file that is not there yet; False, with nothing written, where it is. Of racing writers one wins.

    An answer may get lost and the request be repeated, which then finds its own file: content that no other writer has
    (an id in it) makes sure of who won. S3 is asked with ``If-None-Match``, local disks with a hard link.
    """
    made = (
        _remote(url, "write", partial(create_remote, data), len(data))
        if is_remote(url)
        else create_local(local_path(url), data)
    )
    return bool(made or read_bytes(url) == data)


def claim_json(url: str, value: Any) -> bool:
    """``claim_bytes`` of JSON."""
    return claim_bytes(url, _json(value))


def claim_bytes(url: str, data: bytes) -> bool:
    """``create_bytes`` where it serves to take numbers: a service that cannot do it lets the last writer have the name,
    and what lies there tells who that was."""
    try:
        return create_bytes(url, data)
    except StorageError as error:
        if "NotImplemented" not in str(error):
            raise
        write_bytes(url, data)
        return True


def read_json(url: str, *, any_encoding: bool = False) -> Any:
    """``any_encoding``: a person may have saved it, in an encoding that JSON does not have."""
    try:
        return json.loads(read_text(url) if any_encoding else read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url} is not valid JSON: {error}") from error


def write_json(url: str, value: Any) -> None:
    """UTF-8, indented; not-a-number has no place in JSON and is refused."""
    write_bytes(url, _json(value))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def remove(url: str) -> None:
    """Remove a file or a whole folder; what is not there is removed already."""
    forget(join(url))
    if is_remote(url):
        _remote(url, "remove", _remove_remote)
        return
    path = local_path(url)
    with naming_faults("remove", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_remote(filesystem: Any, path: str) -> None:
    """``rm()`` of fsspec takes ``*``, ``?`` and ``[`` for patterns; here they are letters of a name."""
    if _kind(filesystem, path) is not None:
        filesystem.rm(glob.escape(path), recursive=True)


@contextmanager
def removed_on_failure(*urls: str) -> Iterator[None]:
    """What the block makes at these is gone when it fails, as far as storage allows that; the error is the block's."""
    try:
        yield
    except BaseException:
        for url in urls:
            with suppress(SortaseError, OSError):
                remove(url)
        raise


@contextmanager
def without_empty_folders(url: str) -> Iterator[None]:
    """Local folders that the block makes for ``url``, above and below it, are gone when it fails, if they are empty."""
    if is_remote(url):
        yield
        return
    path = local_path(url)
    missing = [place for place in (path, *path.parents) if not _is_there(place)]
    top = missing[-1] if missing else path
    before = set(_folders(top))
    try:
        yield
    except BaseException:
        for made in sorted(set(_folders(top)) - before, key=lambda place: len(place.parts), reverse=True):
            with suppress(OSError):  # it holds something
                made.rmdir()
        raise


def _folders(top: Path) -> list[Path]:
    return [top, *(place for place in top.rglob("*") if place.is_dir())] if top.is_dir() else []


def upload(local: Path, url: str) -> None:
    """Copy a local file or folder to ``url``; existing files of a folder there stay unless they are replaced."""
    if require(str(local)).is_dir():
        for path in sorted(path for path in local.rglob("*") if is_whole(path)):
            upload(path, join(url, *path.relative_to(local).parts))
    elif is_remote(url):
        note_file(join(url), local)
        _remote(url, "write", lambda fs, path: fs.put_file(str(local), path), local.stat().st_size)
    else:
        with _open_local(str(local)) as source, open_output(url) as target:
            shutil.copyfileobj(source, target, BLOCK)


def download(url: str, local: Path) -> None:
    """Copy a file or folder to this machine."""
    _download(url, list(list_files(url)) if is_dir(url) else [""], local)


def _download(url: str, names: list[str], local: Path) -> None:
    for name in names:
        parts = name.split("/") if name else []
        if ".." in parts:
            raise InputError(f"{url} holds {name!r}, whose name leads out of the folder it is copied to")
        with open_input(join(url, *parts)) as source, local_output(local.joinpath(*parts)) as target:
            while block := source.read(BLOCK):
                check()
                target.write(block)


def require(url: str) -> Path:
    """The local path, or the remedy when nothing is there: the nearest names beside it."""
    path = local_path(url)
    if _is_there(path):
        return path
    raise missing(url)


def missing(url: str) -> MissingInputError:
    """The error for a path or URL at which there is nothing, with the nearest names beside it."""
    return MissingInputError(f"{url} does not exist{_near(url)}")


def unreadable(what: str, name: str, error: Exception) -> InputError:
    """Why a library reads no ``what`` (a tokenizer, a configuration) from a folder, a URL or a name on its hub."""
    reason = str(error).strip().partition("\n")[0]
    if is_remote(name) or exists(name):
        return InputError(f"no {what} can be read from {name}: {reason}")
    return InputError(
        f"{name} does not exist{_near(name)}; and the Hugging Face hub gives no {what} of that name: {reason}"
    )


def _near(url: str) -> str:
    """The names beside a missing path that are most like it, for its message."""
    if is_remote(url):
        parent, _, name = _filesystem(url)[1].rpartition("/")
        try:
            listed = attempt(lambda: _filesystem(url)[0].ls(parent, False), "list", parent)
            names = [item.rpartition("/")[2] for item in listed]
        except MissingInputError:
            names = []
        except StorageError:  # to list may be forbidden where to read is not
            return ""
    else:
        name, parent = local_path(url).name, str(local_path(url).parent)
        names = [item.name for item in Path(parent).iterdir()] if Path(parent).is_dir() else []
    if near := get_close_matches(name, sorted(names), n=3):
        return f"; near it are {near}"
    return "" if names else f"; {parent} is empty or does not exist"


def fetch(url: str) -> Path:
    """A local path with the content of ``url``: itself, or a copy in this node's cache, made once.

    The cache is ``$SORTASE_CACHE``, else ``sortase`` in the user's cache folder. A copy stays there as long as this
    process, unless it fetches a newer one: a changed remote file or folder gets a new copy and the older one is
    removed, so open what is fetched before the source changes, and fetch again after. Files that are no part of a
    dataset or model are not copied.
    """
    if not is_remote(url):
        return require(url)
    for _ in range(COPIES):
        files = own_files(url)
        if not files:
            raise missing(url)
        try:
            source = url.rstrip("/")
            version = repr(sorted(files.items()))
            size = sum(info.size for info in files.values())
            return cached(source, version, source.rpartition("/")[2], size, partial(_copy, url, files))
        except ReplacedError:
            continue
    raise StorageError(f"{url} changed each of the {COPIES} times that it was copied; try again when it is complete")


def release() -> None:
    """Let go of all copies that this process has fetched, which need not be there any more: for one that goes on long
    after it has read them."""
    release_all()


def _copy(url: str, files: dict[str, FileInfo], path: Path) -> None:
    """Copy these files, all of them of the versions that were listed."""
    try:
        _download(url, list(files), path)
    except MissingInputError as error:
        raise ReplacedError(f"{url} changed while it was copied: {error}") from error
    if own_files(url) != files:
        raise ReplacedError(f"{url} changed while it was copied")


def own_files(url: str) -> dict[str, FileInfo]:
    """A file itself, or the files that belong to a dataset, a model or another folder."""
    files = list_files(url)
    names = needed(files)
    return {name: info for name, info in files.items() if name in names}


def fingerprint(url: str, without: tuple[str, ...] = ()) -> str:
    """What identifies the content of a file or folder: names and hashes here, names and ETags of a remote one.

    Of a dataset or model these are its own files, whatever lies beside them.
    """
    listed = list_files(url)
    own = identifying(listed, lambda: read_json(join(url, STATE))) - set(without)
    files = {name: info for name, info in listed.items() if name in own}
    if not files:
        raise InputError(f"{url} is an empty folder") if exists(url) else missing(url)
    names = sorted(files)
    if is_remote(url):
        contents = [files[name].version for name in names]
    else:
        contents = sha256_of_all([local_path(join(url, *name.split("/")) if name else url) for name in names])
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        digest.update(f"{name}\0{files[name].size}\0{content}\n".encode())
    return digest.hexdigest()


Stamp = tuple[tuple[str, FileInfo], ...]


def stamp(url: str) -> Stamp:
    """Changes when any of the files that belong to a file or folder is written again, whatever it holds."""
    return tuple(sorted(own_files(url).items()))


def check_unchanged(url: str, before: Stamp) -> None:
    """StorageError where the stamp is another one by now: of what was read meanwhile a part may be another's."""
    if changed := sorted(name for name, _ in set(before) ^ set(stamp(url))):
        raise StorageError(
            f"{join(url, *changed[0].split('/')) if changed[0] else url} was replaced while it was read; give the "
            "command again once it is complete"
        )


def sha256(url: str, info: FileInfo) -> str:
    """The hash of a file's content, which is read once for each version that is met."""
    if not is_remote(url):
        return sha256_of(local_path(url))
    key = (join(url), info)
    if key not in _Hashes.known:
        with open_input(url) as file:
            _Hashes.known[key] = Written.of(file).sha256
    return _Hashes.known[key]


class _Hashes:
    known: ClassVar[dict[tuple[str, FileInfo], str]] = {}


def probe(url: str) -> None:
    """Write, read and delete a small file below ``url``: what a run will need, found out before it starts."""
    target = join(url, f".probe-{uuid.uuid4().hex[:8]}")
    write_bytes(target, b"sortase")
    if read_bytes(target) != b"sortase":
        raise StorageError(f"{url} does not give back what was written to it")
    remove(target)


def text(url: str) -> io.StringIO:
    """A text file's content, in whichever encoding it was saved."""
    return io.StringIO(read_text(url), newline="")


def read_text(url: str) -> str:
    """The same as one string. A warning says where the encoding is a guess; InputError for what is not text."""
    return decode(read_bytes(url), url)
