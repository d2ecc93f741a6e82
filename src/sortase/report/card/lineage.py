"""Under which licence a model may be used, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .markdown import Code, code, escaped, table

Facts = Mapping[str, Any]


def licence(spec: Facts) -> str:
    name = spec.get("license")
    if name is None:
        return (
            "No licence was given: ask its authors before you use, copy or change it. Its base model and its data may "
            "have licences of their own."
        )
    if name != "other":
        return f"{code(name)}"
    where = f" ({code(spec['license_link'])})" if spec.get("license_link") else ""
    return f"{escaped(spec['license_name'])}{where}"


NOWHERE = "not recorded"


def lineage(found: Facts, run: Facts, fitted: Facts) -> str:
    """A row for each origin; what is not known is said to be not recorded."""
    source, made_by = found.get("data") or {}, found.get("code") or {}
    versions = {name: value for name, value in (run.get("versions") or {}).items() if name != "sortase"}
    rows: list[list[Any]] = [
        ["run", _code(found.get("run"))],
        ["begun", _moment(found.get("created"))],
        ["trained", _moment(found.get("finished"))],
        ["data", _code(source.get("source"))],
        ["fingerprint of the data", _code(source.get("fingerprint"))],
        *([["digest of the settings", _code(found["config"])]] if found.get("config") else []),
        ["digest of all that training read", _code(fitted.get("inputs"))],
        ["sortase", made_by.get("sortase") or (run.get("versions") or {}).get("sortase") or NOWHERE],
        ["commit of the code", _code(made_by.get("commit"))],
        ["container image", _code(found.get("image"))],
        ["parents", _parents(found)],
        *([["champion when it was trained", _code(found["champion"])]] if found.get("champion") else []),
        *([name, _code(value)] for name, value in (found.get("context") or {}).items() if value),
        *([["packages", ", ".join(f"{name} {value}" for name, value in versions.items())]] if versions else []),
    ]
    return table(["what", "which"], rows)


def _parents(found: Facts) -> str:
    if "parents" not in found:
        return NOWHERE
    named = [" ".join(filter(None, (each.get("model"), each.get("version")))) for each in found["parents"] or []]
    return _code(named) if named else "none: new weights"


def _code(value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return Code(shown) if shown else NOWHERE


def _moment(iso: str | None) -> str:
    return f"{iso[:19].replace('T', ' ')} UTC" if iso else NOWHERE
