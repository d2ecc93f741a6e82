"""The kubeconfig: what is wrong with it is said with the name of its file, before anything is asked of a cluster."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..deadlines import UnansweredError, limit, within
from ..errors import ConfigError, InfrastructureError, InputError
from ..text import decode

SECTIONS = {"clusters": "cluster", "contexts": "context", "users": "user"}  # lists, and what each entry holds
DATA = ("certificate-authority-data", "client-certificate-data", "client-key-data")
KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "yes or no", type(None): "nothing"}
MALFORMED = (TypeError, KeyError, AttributeError, IndexError, ValueError)
UNREADABLE = (FileNotFoundError, IsADirectoryError, PermissionError)


@dataclass(frozen=True)
class Entry:
    """A cluster, a context or a user, and the file that it stands in."""

    section: str
    name: str
    path: Path
    entry: dict[str, Any]

    def __str__(self) -> str:
        return f"{SECTIONS[self.section]} {self.name!r} of {self.path}"

    @property
    def inner(self) -> dict[str, Any]:
        key = SECTIONS[self.section]
        if not isinstance(found := self.entry.get(key), dict):
            raise ConfigError(f"{self} must have settings under '{key}', not {_kind(found)}")
        return found

    def text(self, key: str) -> str | None:
        """A setting that is text where it is there."""
        found = self.inner.get(key)
        if not isinstance(found, str | None):
            raise ConfigError(f"{key} of {self} must be text, not {_kind(found)}")
        return found or None


@dataclass(frozen=True)
class Chosen:
    """The context that is worked in, and what it names."""

    context: Entry
    cluster: Entry
    user: Entry | None

    @property
    def command(self) -> str | None:
        """The one that fetches the credentials, where nothing goes before it."""
        own = self.user.inner if self.user else {}
        if "exec" not in own or own.get("token") or own.get("tokenFile") or "auth-provider" in own:
            return None
        plugin = own["exec"]
        if not isinstance(plugin, dict) or not isinstance(plugin.get("command"), str):
            raise ConfigError(f"exec of {self.user} must hold a command")
        return str(plugin["command"])


def load(context: str | None) -> str | None:
    """Let the client of this process use the kubeconfig; its namespace, or an empty text. None where there is no file.

    Raises:
        ConfigError: a file is malformed, or names what is not there.
        InfrastructureError: the command that fetches credentials fails, or does not end.
    """
    from kubernetes import client, config

    location = str(config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION)
    files = [path for path in _paths(location) if path.exists()]
    if not files:
        return None
    chosen = _choose(files, context)
    with _failing_command(chosen, client), _refused(chosen):
        within(limit("kubernetes-call"), lambda: config.load_kube_config(location, chosen.context.name))
    return chosen.context.text("namespace") or ""


def places() -> str:
    """Where the client looks for a kubeconfig."""
    from kubernetes import config

    return ", ".join(map(str, _paths(str(config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION))))


def _paths(location: str) -> list[Path]:
    return [Path(name).expanduser() for name in location.split(os.pathsep) if name]


def _kind(value: Any) -> str:
    return KINDS.get(type(value), "a number")


def _choose(files: list[Path], context: str | None) -> Chosen:
    current, entries = None, []
    for path in files:
        settings = _read(path)
        current = settings.get("current-context", current)
        entries += [entry for section in SECTIONS for entry in _entries(settings, section, path)]
    where = ", ".join(map(str, files))
    if context is None and not current:
        names = ", ".join(repr(entry.name) for entry in entries if entry.section == "contexts") or "none"
        raise ConfigError(f"{where} has no current-context; --context names one of its contexts: {names}")
    chosen = _named(entries, "contexts", context or current, f"is not in {where}")
    cluster = chosen.text("cluster")
    if cluster is None:
        raise ConfigError(f"{chosen} names no cluster")
    user = chosen.text("user")
    found = Chosen(
        chosen,
        _named(entries, "clusters", cluster, f"is named by {chosen} and not there"),
        _named(entries, "users", user, f"is named by {chosen} and not there") if user else None,
    )
    _check(found)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(decode(path.read_bytes(), str(path)))
    except OSError as error:
        raise ConfigError(f"the kubeconfig {path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise ConfigError(f"{path} is not a kubeconfig: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is not a kubeconfig: it is nested too deeply") from error
    except yaml.YAMLError as error:  # its own words show lines of the file, which may be secret
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path} is not valid YAML{line}: {getattr(error, 'problem', None) or 'no text'}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold clusters, contexts and users, not {_kind(found)}")
    return found


def _entries(settings: dict[str, Any], section: str, path: Path) -> Iterator[Entry]:
    listed = settings.get(section) or []
    if not isinstance(listed, list):
        raise ConfigError(f"'{section}' of {path} must be a list, not {_kind(settings[section])}")
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ConfigError(f"entry {number} of '{section}' of {path} must be a mapping with a name")
        yield Entry(section, entry["name"], path, entry)


def _named(entries: list[Entry], section: str, name: Any, missing: str) -> Entry:
    """Of several with a name the first one, as the client takes it."""
    of_kind = [entry for entry in entries if entry.section == section]
    for entry in of_kind:
        if entry.name == name:
            return entry
    known = ", ".join(repr(entry.name) for entry in of_kind) or "none"
    raise ConfigError(f"the {SECTIONS[section]} {name!r} {missing}; there are {known}")


def _check(chosen: Chosen) -> None:
    server = chosen.cluster.text("server")
    if server is None or not server.startswith(("http://", "https://")):
        raise ConfigError(f"server of {chosen.cluster} must be a URL such as https://host:6443, not {server!r}")
    for entry in filter(None, (chosen.cluster, chosen.user)):
        for key in DATA:
            data = entry.text(key)
            try:
                base64.b64decode("".join((data or "").split()), validate=True)
            except ValueError as error:
                raise ConfigError(f"{key} of {entry} is not base64: {error}") from None


@contextmanager
def _refused(chosen: Chosen) -> Iterator[None]:
    """The client's own errors for what it cannot read, with the file; certificates are looked at, too."""
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    whose = chosen.user or chosen.cluster
    try:
        yield
        _load_certificates(client.Configuration.get_default_copy())
    except UnansweredError as error:
        raise InfrastructureError(f"the credentials of {whose}: {error}") from error
    except ssl.SSLError as error:
        raise ConfigError(f"the certificates of {chosen.cluster}, or of its user, are none: {error}") from error
    except config.ConfigException as error:
        raise ConfigError(f"{whose} cannot be used: {error}") from error
    except (*MALFORMED, *UNREADABLE) as error:
        raise ConfigError(f"{whose} cannot be used: {type(error).__name__}: {error}") from error
    except (OSError, HTTPError, client.ApiException) as error:
        raise InfrastructureError(f"the credentials of {whose}: {error}") from error


def _load_certificates(settings: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ssl_ca_cert:
        context.load_verify_locations(settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)


class _Heard(logging.Handler):
    """The last message: the client says there, and nowhere else, why a command gave no credentials."""

    words = "it gave no credentials"

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


@contextmanager
def _failing_command(chosen: Chosen, client: Any) -> Iterator[None]:
    """The client goes on as nobody where the command that fetches credentials fails, or is not there."""
    command, heard, root = chosen.command, _Heard(), logging.getLogger()
    if command is None:
        yield
        return
    root.addHandler(heard)
    try:
        yield
    finally:
        root.removeHandler(heard)
    settings = client.Configuration.get_default_copy()
    if settings.api_key or settings.cert_file:
        return
    told = f"exec of {chosen.user} brought nothing to log in with"
    if shutil.which(str(chosen.cluster.path.parent / command) if os.sep in command else command) is None:
        raise ConfigError(f"{told}: there is no command {command!r} on this machine")
    raise InfrastructureError(f"{told}: {heard.words}")
