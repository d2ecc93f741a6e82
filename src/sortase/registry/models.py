"""A model of the registry by its name: its versions and what its aliases mean."""

from __future__ import annotations

from dataclasses import dataclass

from .. import storage
from ..errors import ConfigError, MissingInputError
from .moves import Table, table
from .names import CHAMPION, VERSION, Reference, parse, registry_url
from .versions import RECORD, Version, find, read


@dataclass(frozen=True)
class Model:
    """``url`` is ``<registry>/<name>``."""

    url: str
    name: str

    @property
    def registry(self) -> str:
        return self.url.rpartition("/")[0]

    def meant(self, seen: Table, alias: str) -> Version | None:
        """What the alias meant in this table; MissingInputError where that version is lost."""
        name = seen.aliases.get(alias)
        return find(self.url, name) if name else None

    @property
    def champion(self) -> Version | None:
        return self.meant(table(self.url), CHAMPION)

    def version(self, wanted: str) -> Version:
        """By alias or name."""
        aliases = table(self.url).aliases
        found = read(self.url, aliases[wanted]) if wanted in aliases else None
        if found is not None:
            return found
        try:
            return find(self.url, wanted)
        except MissingInputError as error:
            raise MissingInputError(f"{error}; aliases: {', '.join(sorted(aliases)) or 'none'}") from error


def model_of(name: str, registry: str | None = None) -> Model:
    return Model(storage.join(registry_url(registry), name), name)


def names(registry: str) -> list[str]:
    """Models with a version."""
    found = storage.list_files(registry)
    return sorted({name.split("/")[0] for name in found if name.endswith(f"/{RECORD}") and "/versions/" in name})


def resolve(text: str, registry: str | None = None) -> Version:
    """The version that ``registry://name@alias`` means now; without an alias or version, the champion.

    Raises:
        ConfigError: the reference, or the registry's address, is wrong.
        MissingInputError: there is no such model, alias or version.
        InputError: the version's files are not all there.
    """
    reference: Reference = parse(text)
    model = model_of(reference.name, registry)
    found = model.version(reference.version) if reference.version else model.champion
    if found is None:
        raise ConfigError(f"{model.url} has no champion; name a version, as {reference.name}@VERSION")
    found.check()
    return found


def version_at(model_folder: str) -> Version | None:
    """The version whose model lies at this URL; None for a model that is in no registry."""
    url, _, last = model_folder.rstrip("/").rpartition("/")
    model_url, _, name = url.rpartition("/versions/")
    return read(model_url, name) if last == "model" and model_url and VERSION.fullmatch(name) else None
