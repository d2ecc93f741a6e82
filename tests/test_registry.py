"""Versions and aliases: what moves, who wins, what is refused, and what is left of a death."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from patience import PATIENCE
from registry_data import NAMES, version
from sortase import storage
from sortase.errors import (
    ConfigError,
    ConflictError,
    GateError,
    InputError,
    MissingInputError,
    SortaseError,
)
from sortase.gate.promotion import promote, rollback
from sortase.registry import moves, verdicts
from sortase.registry.context import context
from sortase.registry.models import Model, names, resolve
from sortase.registry.moves import Table, history, move, rolled_back, table, version_before
from sortase.registry.names import CHAMPION, check_alias, parse
from sortase.registry.versions import Version, versions

RACER = """
import sys, time
from sortase.errors import ConflictError
from sortase.registry.moves import Table, move
url, own, start = sys.argv[1:]
time.sleep(max(0, float(start) - time.time()))
try:
    print(move(url, "champion", own, kind="promote", seen=Table(0, {})) is not None)
except ConflictError as error:
    print(False)
"""


@pytest.fixture
def model(root: str) -> Model:
    return Model(storage.join(root, "registry", "cells"), "cells")


def pass_gate(model: Model, candidate: Version, champion: Version | None) -> None:
    verdict = {"inputs": "x" * 32, "passed": True, "champion": champion and champion.name, "judged": moves.now()}
    verdicts.keep(model, candidate, verdict)


class TestMoves:
    def test_the_newest_move_is_the_state_and_all_are_the_history(self, model: Model) -> None:
        assert table(model.url).aliases == {}
        assert move(model.url, "champion", "v1", kind="promote", why="first", asked={"who": "ann"}) is not None
        assert move(model.url, "staging", "v2", kind="set") is not None
        assert move(model.url, "champion", "v2", kind="promote", seen=table(model.url)) is not None
        assert move(model.url, "champion", "v2", kind="promote") is None, "it is there already"
        assert table(model.url).aliases == {"champion": "v2", "staging": "v2"}
        told = [(each["number"], each["alias"], each["before"], each["version"]) for each in history(model.url)]
        assert told == [(1, "champion", None, "v1"), (2, "staging", None, "v2"), (3, "champion", "v1", "v2")]
        assert history(model.url)[0]["context"] == {"who": "ann"}
        assert history(model.url)[0]["why"] == "first"

    def test_a_decision_about_another_champion_is_refused(self, model: Model) -> None:
        before = table(model.url)
        move(model.url, "champion", "v1", kind="promote", seen=before)
        first = table(model.url)
        move(model.url, "staging", "v3", kind="set")
        move(model.url, "champion", "v2", kind="promote", seen=first)
        with pytest.raises(ConflictError, match="moved from v1 to v2 after this was decided, and is v2 now"):
            move(model.url, "champion", "v3", kind="promote", seen=first)
        with pytest.raises(ConflictError, match="moved from nothing to v1"):
            move(model.url, "champion", "v3", kind="promote", seen=before)
        assert table(model.url).aliases["champion"] == "v2"

    def test_a_champion_that_went_and_came_back_is_not_the_one_of_the_decision(self, model: Model) -> None:
        """What took it away, such as a rollback, was not known to those who decided."""
        move(model.url, "champion", "v1", kind="promote")
        seen = table(model.url)
        move(model.url, "champion", "v2", kind="promote")
        move(model.url, "champion", "v1", kind="rollback")
        with pytest.raises(ConflictError, match="moved from v1 to v2 after this was decided, and is v1 now"):
            move(model.url, "champion", "v2", kind="promote", seen=seen)

    @pytest.mark.parametrize(
        ("lost", "words"),
        [
            ([1], "lacks 00000001.json: moves"),
            ([2, 3], "lacks 00000002.json to 00000003.json: moves"),
            ([1, 2, 3, 4], "lacks 00000001.json to 00000004.json: moves"),
        ],
        ids=["the first", "in between", "all"],
    )
    def test_lost_moves_are_no_fresh_start(self, lost: list[int], words: str, model: Model) -> None:
        """Such as a rule of a bucket that lets old objects expire leaves them."""
        for number in range(1, 5):
            move(model.url, "champion", f"v{number}", kind="promote")
        made = version(model, NAMES[0])
        record = storage.read_json(made.path("version.json"))
        storage.write_json(made.path("version.json"), {**record, "moves": 4})
        for number in lost:
            storage.remove(storage.join(model.url, "moves", f"{number:08d}.json"))
        for use in (lambda: model.champion, lambda: move(model.url, "champion", "v1", kind="promote")):
            with pytest.raises(InputError, match=words):
                use()

    def test_of_racing_promotions_one_wins(self, model: Model) -> None:
        """Threads that start together: each move is either whole or refused, and numbers have no gap."""
        together = Barrier(8)

        def promote_it(number: int) -> bool:
            together.wait()
            try:
                return move(model.url, "champion", f"v{number}", kind="promote", seen=Table(0, {})) is not None
            except ConflictError:
                return False

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(promote_it, range(8)))
        assert sum(won) == 1
        assert table(model.url).aliases == {"champion": f"v{won.index(True)}"}
        assert [each["number"] for each in history(model.url)] == [1]

    def test_aliases_that_race_for_a_number_all_move(self, model: Model) -> None:
        together = Barrier(6)

        def set_it(number: int) -> None:
            together.wait()
            move(model.url, f"alias-{number}", f"v{number}", kind="set")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(set_it, range(6)))
        assert table(model.url).aliases == {f"alias-{n}": f"v{n}" for n in range(6)}
        assert [each["number"] for each in history(model.url)] == list(range(1, 7))

    def test_racing_processes(self, tmp_path: Path) -> None:
        start = str(time.time() + 3)
        racers = [
            subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), f"v{i}", start], stdout=subprocess.PIPE)
            for i in range(4)
        ]
        won = [racer.communicate(timeout=PATIENCE)[0].strip() == b"True" for racer in racers]
        assert sum(won) == 1
        assert table(str(tmp_path)).aliases["champion"] == f"v{won.index(True)}"

    def test_a_lost_answer_is_no_lost_race(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file was written, but the request's repeat finds it taken: by itself."""
        monkeypatch.setattr(storage, "create_local", _lose_the_answer(storage.create_local))
        monkeypatch.setattr(storage, "create_remote", _lose_the_answer(storage.create_remote))
        assert move(model.url, "champion", "v1", kind="promote") is not None
        assert [each["version"] for each in history(model.url)] == ["v1"]


def _lose_the_answer(create: Callable[..., bool]) -> Callable[..., bool]:
    def lost(*arguments: Any) -> bool:
        create(*arguments)
        return create(*arguments)

    return lost


class TestVersions:
    def test_newest_first_and_only_whole_ones(self, model: Model) -> None:
        for name in NAMES[:3]:
            version(model, name)
        storage.remove(storage.join(model.url, "versions", NAMES[2], "version.json"))
        assert [each.name for each in versions(model.url)] == [NAMES[1], NAMES[0]]
        assert names(storage.join(model.url, "..") if "://" not in model.url else model.url.rpartition("/")[0]) == [
            "cells"
        ]

    def test_by_its_digest_or_alias(self, model: Model) -> None:
        made = version(model, NAMES[0])
        move(model.url, "staging", made.name, kind="set")
        assert model.version("11111111").name == made.name
        assert model.version("staging").name == made.name
        with pytest.raises(MissingInputError, match=r"has no version 'prod'.*aliases: staging"):
            model.version("prod")

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            pytest.param(lambda url: storage.remove(url), "is missing", id="missing"),
            pytest.param(lambda url: storage.write_bytes(url, b"short"), "has 5 bytes", id="size"),
            pytest.param(lambda url: storage.write_bytes(url, b"W" * 35), "is not what was registered", id="content"),
        ],
    )
    def test_damage_is_found(self, model: Model, damage: Callable[[str], None], words: str) -> None:
        made = version(model, NAMES[0])
        made.verify()
        damage(made.path("model", "model.safetensors"))
        with pytest.raises(InputError, match=words):
            made.verify()

    def test_a_reference_is_resolved(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        made = version(model, NAMES[0])
        url = model.url.rpartition("/")[0]
        with pytest.raises(ConfigError, match="has no champion"):
            resolve("registry://cells", url)
        move(model.url, CHAMPION, made.name, kind="promote")
        assert resolve("registry://cells", url).name == made.name
        monkeypatch.setenv("SORTASE_REGISTRY", url)
        assert resolve("registry://cells@champion").model == made.path("model")
        with pytest.raises(MissingInputError, match="nothing"):
            resolve("registry://nothing@champion")
        storage.remove(made.path("model", "model.safetensors"))
        with pytest.raises(InputError, match="is missing"):
            resolve("registry://cells@champion")


class TestPromotion:
    def test_only_what_passed_against_this_champion(self, model: Model) -> None:
        first, second, third = (version(model, name) for name in NAMES[:3])
        with pytest.raises(GateError, match=r"passed no gate .there is no champion yet"):
            promote(model, first)
        pass_gate(model, first, None)
        assert promote(model, first, why="start").before is None
        pass_gate(model, second, None)
        with pytest.raises(GateError, match=f"no gate against the champion {first.name}"):
            promote(model, second)
        pass_gate_again = {"inputs": "y" * 32, "passed": True, "champion": first.name, "judged": moves.now()}
        verdicts.keep(model, second, pass_gate_again)
        moved = promote(model, second)
        assert moved.record is not None
        assert moved.record["gate"].endswith("y.json")
        assert promote(model, second).record is None, "again: nothing to do"
        verdicts.keep(model, third, {**pass_gate_again, "passed": False, "champion": second.name})
        with pytest.raises(GateError) as refused:
            promote(model, third)
        assert refused.value.exit_code == 6

    def test_an_override_is_recorded_and_needs_a_reason(self, model: Model) -> None:
        made = version(model, NAMES[0])
        with pytest.raises(ConfigError, match="takes the reason"):
            promote(model, made, override=" ")
        promote(model, made, override="a new class", asked={"who": "ann"})
        assert history(model.url)[-1]["override"] == "a new class"

    def test_a_damaged_version_is_not_promoted(self, model: Model) -> None:
        made = version(model, NAMES[0])
        storage.write_bytes(made.path("model", "model.safetensors"), b"W" * 35)
        with pytest.raises(InputError, match="damaged"):
            promote(model, made, override="because")
        assert model.champion is None

    def test_other_aliases_need_no_gate(self, model: Model) -> None:
        made = version(model, NAMES[0])
        assert promote(model, made, alias="staging").record is not None
        assert model.champion is None

    def test_the_champion_that_a_gate_compared_with_has_to_be_it_still(self, model: Model) -> None:
        first, second, third = (version(model, name) for name in NAMES[:3])
        promote(model, first, override="start")
        pass_gate(model, third, first)
        seen = table(model.url)
        promote(model, second, override="quicker")
        with pytest.raises(ConflictError, match=f"moved from {first.name} to {second.name}"):
            promote(model, third, seen=seen)


class TestRollback:
    def test_undoes_promotions_one_after_another(self, model: Model) -> None:
        made = [version(model, name) for name in NAMES[:3]]
        for each in made:
            promote(model, each, override="test")
        assert version_before(model.url, CHAMPION) == made[1].name
        assert rollback(model, why="wrong").version.name == made[1].name
        assert rollback(model).version.name == made[0].name
        with pytest.raises(ConfigError, match="since its first move"):
            rollback(model)
        assert rollback(model, to=made[2].name).version.name == made[2].name

    def test_what_was_rolled_back_stays_so(self, model: Model) -> None:
        first, second = (version(model, name) for name in NAMES[:2])
        promote(model, first, override="start")
        pass_gate(model, second, first)
        promote(model, second)
        rollback(model, why="complaints", asked={"who": "ann"})
        with pytest.raises(GateError, match=r"rolled back by ann.*complaints"):
            promote(model, second)
        assert second.name in rolled_back(model.url, CHAMPION)
        promote(model, second, override="mended")
        assert second.name not in rolled_back(model.url, CHAMPION)

    def test_an_override_in_favour_of_an_older_version_is_a_way_back(self, model: Model) -> None:
        made = [version(model, name) for name in NAMES[:3]]
        for each in made:
            promote(model, each, override="start")
        assert rolled_back(model.url, CHAMPION) == {}, "the way forward takes nothing back"
        promote(model, made[1], override="complaints", asked={"who": "ann"})
        assert list(rolled_back(model.url, CHAMPION)) == [made[2].name]
        with pytest.raises(GateError, match=f"replaced by the older {made[1].name} by ann on .*: complaints"):
            promote(model, made[2])

    def test_every_way_back_is_one(self, model: Model) -> None:
        """By rollback over several versions, by override, and by a passed gate, but not the retraining's own."""
        made = [version(model, name) for name in NAMES[:3]]
        for each in made:
            promote(model, each, override="start")
        promote(model, made[0], override="both were wrong")
        assert set(rolled_back(model.url, CHAMPION)) == {made[1].name, made[2].name}
        with pytest.raises(ConfigError, match="since its first move"):
            rollback(model)
        assert rollback(model, to=made[2].name).version.name == made[2].name, "a rollback is undone"
        assert set(rolled_back(model.url, CHAMPION)) == {made[1].name}
        pass_gate(model, made[0], made[2])
        promote(model, made[0], why="by hand")
        assert made[2].name in rolled_back(model.url, CHAMPION)
        promote(model, made[2], override="again")
        promote(model, made[0], override="late", by="retrain")
        assert made[2].name not in rolled_back(model.url, CHAMPION)

    def test_goes_back_only_to_what_was(self, model: Model) -> None:
        first, second, third = (version(model, name) for name in NAMES[:3])
        promote(model, first, override="start")
        promote(model, second, override="start")
        with pytest.raises(ConfigError, match=f"has never been {third.name}"):
            rollback(model, to=third.name)

    def test_names_that_look_like_credentials(self, model: Model) -> None:
        made = version(model, NAMES[0])
        promote(model, made, alias="token", why="password=abcdefgh")
        assert table(model.url).aliases == {"token": made.name}
        assert "abcdefgh" not in str(history(model.url))

    def test_a_champion_that_is_lost_can_be_left(self, model: Model) -> None:
        made = [version(model, name) for name in NAMES[:3]]
        for each in made[:2]:
            promote(model, each, override="start")
        storage.remove(made[1].url)
        assert rollback(model).version.name == made[0].name
        promote(model, made[2], override="again")
        storage.remove(made[2].url)
        assert promote(model, made[0], override="lost").before == made[2].name

    def test_nothing_to_roll_back(self, model: Model) -> None:
        with pytest.raises(ConfigError, match="has no champion"):
            rollback(model)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=text or "empty")
        for text in ("", "@champion", "a/b@x", "registry://", "a@b@c", "-x@y", "a@")
    ],
)
def test_wrong_references(text: str) -> None:
    with pytest.raises(ConfigError, match="names no registered model"):
        parse(text)


@pytest.mark.parametrize("alias", ["", "20260101T120000-11111111", "11111111", "a/b", "a b"])
def test_wrong_aliases(alias: str) -> None:
    with pytest.raises(ConfigError, match="cannot be an alias"):
        check_alias(alias)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param(
            {
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTOR": "ann",
                "GITHUB_SERVER_URL": "https://git",
                "GITHUB_REPOSITORY": "o/r",
            }
            | {"GITHUB_RUN_ID": "7", "GITHUB_SHA": "abc"},
            {"who": "ann", "where": "https://git/o/r/actions/runs/7", "commit": "abc"},
            id="github",
        ),
        pytest.param(
            {"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "bob", "CI_JOB_URL": "https://git/j/1", "CI_COMMIT_SHA": "def"},
            {"who": "bob", "where": "https://git/j/1", "commit": "def"},
            id="gitlab",
        ),
    ],
)
def test_context_of_ci(env: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "SORTASE_WHO"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert context() == expected
    assert context("carl")["who"] == "carl"


def test_a_missing_registry_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SORTASE_REGISTRY", raising=False)
    with pytest.raises(SortaseError, match="no registry is named"):
        resolve("registry://cells")


def test_moves_are_plain_json(tmp_path: Path) -> None:
    move(str(tmp_path), "champion", "v1", kind="promote", why="ümlaut")
    told = json.loads((tmp_path / "moves" / "00000001.json").read_text())
    assert told["why"] == "ümlaut"
