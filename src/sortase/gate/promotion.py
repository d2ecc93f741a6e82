"""Moving the champion: only for a passed gate, or for a reason that is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config.gate import GateSpec
from ..errors import ConfigError, GateError
from ..registry.models import Model
from ..registry.moves import Table, history, move, refuse_moved, rolled_back, table, version_before
from ..registry.names import CHAMPION, check_alias
from ..registry.verdicts import newest
from ..registry.versions import Version
from .verdict import words_of


@dataclass(frozen=True)
class AliasMove:
    """``record`` is None where the alias meant the version already."""

    alias: str
    version: Version
    before: str | None
    record: dict[str, Any] | None


def promote(
    model: Model,
    version: Version,
    *,
    alias: str = CHAMPION,
    override: str | None = None,
    why: str | None = None,
    asked: dict[str, str] | None = None,
    seen: Table | None = None,
    rules: GateSpec | None = None,
    gate: tuple[dict[str, Any], str] | None = None,
    by: str = "person",
) -> AliasMove:
    """Let the alias mean this version. ``override``: why no passed gate is needed. ``seen``: the aliases when the
    gate compared, where the caller knows. ``gate``: the verdict to rely on, with its URL; by default the newest
    one, by these ``rules`` where they are given. ``by``: person, or retrain.

    Raises:
        GateError: the newest gate against the champion was not passed, there is none, or the version was rolled back.
        ConflictError: another promotion was quicker.
        InputError: the version is damaged.
    """
    check_alias(alias)
    if override is not None and not override.strip():
        raise ConfigError("--override takes the reason why; it is kept in the history")
    if alias != CHAMPION:
        version.check()
        record = move(model.url, alias, version.name, kind="set", why=why or override, asked=asked)
        return AliasMove(alias, version, record["before"] if record else None, record)
    current = table(model.url)
    before = current.aliases.get(CHAMPION)
    if before == version.name:
        return AliasMove(alias, version, before, None)
    if seen is not None:
        refuse_moved(model.url, alias, seen, current)
    gate = gate or newest(model, version, before, rules)
    if override is None:
        _require(model, version, before, gate, rules)
    version.verify()
    told = {"gate": gate and gate[1], "override": override, "by": by}
    record = move(model.url, alias, version.name, kind="promote", seen=current, why=why, asked=asked, **told)
    return AliasMove(alias, version, before, record)


def _require(
    model: Model,
    version: Version,
    champion: str | None,
    gate: tuple[dict[str, Any], str] | None,
    rules: GateSpec | None,
) -> None:
    undone = rolled_back(model.url, CHAMPION).get(version.name)
    if undone is not None:
        raise GateError(f"{version.name} {undone_words(undone)}; --override WHY promotes it all the same")
    against = f"against the champion {champion}" if champion else "(there is no champion yet)"
    remedy = "run `sortase gate`, or --override WHY, which is recorded"
    if gate is None:
        by = " by the rules of the configuration" if rules else ""
        raise GateError(f"{version.name} has passed no gate {against}{by}; {remedy}")
    if gate[0]["passed"] is None:
        raise GateError(f"{version.name} was not judged by its last gate {against}: {words_of(gate[0])}")
    if not gate[0]["passed"]:
        raise GateError(f"{version.name} did not pass its last gate {against}, of {gate[0]['judged']}; {remedy}")


def undone_words(undone: dict[str, Any]) -> str:
    reason = undone["why"] or undone["override"]
    done = "was rolled back" if undone["kind"] == "rollback" else f"was replaced by the older {undone['version']}"
    return f"{done} by {undone['context']['who']} on {undone['when']}{f': {reason}' if reason else ''}"


def rollback(
    model: Model,
    *,
    to: str | None = None,
    alias: str = CHAMPION,
    why: str | None = None,
    asked: dict[str, str] | None = None,
) -> AliasMove:
    """Let the alias mean what it meant before the promotion that holds now, or the version named.

    Raises:
        ConfigError: there is nothing to go back to, or the alias never meant the version named.
        ConflictError: somebody moved the alias meanwhile.
    """
    seen = table(model.url)
    current = seen.aliases.get(alias)  # its version may be lost
    if current is None:
        raise ConfigError(f"{model.url} has no {alias}; there is nothing to roll back")
    wanted = to or version_before(model.url, alias)
    if wanted is None:
        raise ConfigError(f"{alias} of {model.url} has been {current} since its first move; name a version with --to")
    version = model.version(wanted)
    if version.name not in {each["version"] for each in history(model.url, alias)}:
        raise ConfigError(
            f"{alias} of {model.url} has never been {version.name}, so it cannot go back to it; see `sortase promote`"
        )
    version.verify()
    record = move(
        model.url,
        alias,
        version.name,
        kind="rollback",
        seen=seen,
        why=why,
        asked=asked,
        override=None,
        gate=None,
    )
    return AliasMove(alias, version, current, record)
