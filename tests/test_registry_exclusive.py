"""Storages in which two promotions could both win are refused, before every move; the order of moves is their own."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from faulty_s3 import faulty_s3
from registry_data import version
from sortase import storage
from sortase.errors import ConfigError, GateError, StorageError
from sortase.gate.promotion import promote
from sortase.registry import moves, verdicts
from sortase.registry.exclusive import RACES, require_exclusive, require_known
from sortase.registry.models import Model
from sortase.registry.moves import history, move, rolled_back, table
from sortase.registry.names import CHALLENGER, CHAMPION
from sortase.retrain.register import register
from sortase.runs.folder import RunFolder


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(str(tmp_path / "registry" / "cells"), "cells")


class TestProtocols:
    @pytest.mark.parametrize(
        "url",
        ["memory://registry", "local:///srv/registry", "sftp://host/registry", "simplecache::s3://bucket/registry"],
    )
    def test_a_client_that_looks_first_is_refused_in_words(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"^\S+: files of \S+:// are not known .*s3://, gs://, abfs://"):
            require_known(url)

    @pytest.mark.parametrize("url", ["s3://b/r", "s3a://b/r", "gs://b/r", "gcs://b/r", "abfs://c/r", "az://c/r", "/r"])
    def test_those_that_ask_the_service_are_not(self, url: str) -> None:
        require_known(url)
        require_known(f"file://{url}" if url.startswith("/") else url)

    def test_nothing_is_moved_or_registered_there(self, tmp_path: Path) -> None:
        url = f"local://{tmp_path}/registry/cells"
        with pytest.raises(ConfigError, match="local:// are not known"):
            move(url, CHAMPION, "v1", kind="promote")
        with pytest.raises(ConfigError, match="local:// are not known"):
            register(RunFolder(str(tmp_path / "run")), url)
        assert not list(tmp_path.iterdir())


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], None]:
    """Puts something before each writing of the S3 server, which is given the request."""
    from moto.s3.responses import S3Response

    def patch(before: Callable[[Any], None]) -> None:
        original, writing = S3Response.put_object, Lock()  # the server fails where one object is written twice at once

        def put_object(request: Any) -> Any:
            before(request)
            with writing:
                return original(request)

        monkeypatch.setattr(S3Response, "put_object", put_object)

    return patch


def unconditional(request: Any) -> None:
    request.headers = {name: value for name, value in request.headers.items() if name != "If-None-Match"}


class LooksFirst:
    """Of two writers at once both have looked before one of them writes; what comes later is told the truth."""

    def __init__(self) -> None:
        self.one_at_a_time = Lock()
        self.found_nothing: dict[str, int] = {}
        self.both: dict[str, Event] = {}

    def __call__(self, request: Any) -> None:
        name = request.parse_key_name()
        if "/.probe-" not in name or request.headers.get("If-None-Match") != "*":
            return
        with self.one_at_a_time:
            if request.backend.get_object(request.bucket_name, name) is not None:
                return
            both = self.both.setdefault(name, Event())
            self.found_nothing[name] = self.found_nothing.get(name, 0) + 1
            if self.found_nothing[name] == 2:
                both.set()
        both.wait(10)  # for nothing, where writers come one after the other
        unconditional(request)


class TestServices:
    def test_a_good_one_is_left_as_it_was(self, root: str) -> None:
        storage.write_bytes(storage.join(root, "cells", "other"), b"")
        require_exclusive(storage.join(root, "cells"))
        assert list(storage.list_files(root)) == ["cells/other"]
        assert storage.is_remote(root) or [each.name for each in Path(root, "cells").iterdir()] == ["other"]

    def test_one_that_looks_first_is_refused_at_any_move(self, s3_url: str, put: Callable[..., None]) -> None:
        url = f"{s3_url}/cells"
        assert move(url, CHAMPION, "v1", kind="promote") is not None
        server = LooksFirst()
        put(server)
        with pytest.raises(ConfigError, match=r"does not create files exclusively \(2 of two writers were told"):
            move(url, CHAMPION, "v2", kind="promote")
        assert 2 in server.found_nothing.values()
        assert list(storage.list_files(url)) == ["moves/00000001.json"]
        assert table(url).aliases == {CHAMPION: "v1"}

    def test_one_that_overwrites_is_refused(self, s3_url: str, put: Callable[..., None]) -> None:
        put(unconditional)
        with pytest.raises(ConfigError, match="does not create files exclusively"):
            move(f"{s3_url}/cells", CHAMPION, "v1", kind="promote")
        assert not storage.list_files(s3_url)

    def test_one_without_the_condition_is_refused(
        self, s3_url: str, s3_server: str, s3_through: Callable[[str], None]
    ) -> None:
        with faulty_s3(s3_server) as server:
            s3_through(server.address)
            server.fail("501 NotImplemented", where="PUT")
            with pytest.raises(ConfigError, match=r"does not create files exclusively \(cannot write"):
                move(f"{s3_url}/cells", CHAMPION, "v1", kind="promote")
            server.heal()
            assert not storage.list_files(s3_url)

    def test_one_that_refuses_to_write_is_told_as_it_is(
        self, s3_url: str, s3_server: str, s3_through: Callable[[str], None]
    ) -> None:
        with faulty_s3(s3_server) as server:
            s3_through(server.address)
            server.fail("403 AccessDenied", where="PUT")
            with pytest.raises(StorageError, match="AccessDenied"):
                move(f"{s3_url}/cells", CHAMPION, "v1", kind="promote")

    def test_every_move_is_tried_once(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        create = storage.create_bytes

        def noted(url: str, data: bytes) -> bool:
            made.append(url)
            if url.endswith("00000002.json") and len(made) == 1 + 2 * (2 * RACES + 1) - 1:
                create(url, json.dumps({"aliases": {"other": "v9"}}).encode())  # somebody else's, at this moment
            return create(url, data)

        monkeypatch.setattr(storage, "create_bytes", noted)
        move(model.url, CHAMPION, "v1", kind="promote")
        assert len(made) == 2 * RACES + 1
        move(model.url, CHAMPION, "v2", kind="promote")
        assert len(made) == 2 * (2 * RACES + 1) + 1, "the number was lost once, and not raced for again"
        assert table(model.url).number == 3


class TestDisks:
    @pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
    def test_one_without_links_is_refused(self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(source: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number), str(source), None, str(target))

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(ConfigError, match=r"does not create files exclusively .*disk with hard links"):
            move(str(tmp_path / "registry" / "cells"), CHAMPION, "v1", kind="promote")
        assert not list(tmp_path.iterdir())

    def test_a_file_where_the_registry_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "registry").write_text("no folder")
        with pytest.raises(StorageError, match="cannot write"):
            move(str(tmp_path / "registry" / "cells"), CHAMPION, "v1", kind="promote")


class TestOrder:
    def test_a_ninth_digit_follows_the_eighth(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(moves, "FIRST", 99_999_998)
        first = {"number": 99_999_998, "alias": CHAMPION, "version": "v1", "before": None, "aliases": {CHAMPION: "v1"}}
        storage.write_json(storage.join(model.url, "moves", "99999998.json"), first)
        for name in ("v2", "v3", "v4"):
            assert move(model.url, CHAMPION, name, kind="promote") is not None
        assert [each["number"] for each in history(model.url)] == list(range(99_999_998, 100_000_002))
        assert table(model.url).number == 100_000_001
        assert sorted(path.name for path in Path(model.url, "moves").iterdir())[0] == "100000000.json"
        assert table(model.url).aliases == {CHAMPION: "v4"}

    @pytest.mark.parametrize("name", ["000000005.json", "00000000٥.json", "5.json", "00000005.json.tmp"])
    def test_other_files_are_no_moves(self, name: str, model: Model) -> None:
        move(model.url, CHAMPION, "v1", kind="promote")
        storage.write_json(storage.join(model.url, "moves", name), {"aliases": {CHAMPION: "v9"}})
        assert table(model.url).aliases == {CHAMPION: "v1"}

    def test_clocks_do_not_tell_which_version_is_the_older(self, model: Model) -> None:
        """The names of versions begin with a time, and that of the first one's machine was years ahead."""
        ahead, behind = (version(model, f"{year}0101T120000-11111111") for year in ("2031", "2021"))
        for each in (ahead, behind):
            move(model.url, CHALLENGER, each.name, kind="set")
        promote(model, ahead, override="start")
        promote(model, behind, override="better")
        assert rolled_back(model.url, CHAMPION) == {}, "the way forward takes nothing back"

    def test_a_person_prefers_the_earlier_challenger(self, model: Model) -> None:
        early, late = (version(model, f"{year}0101T120000-11111111") for year in ("2031", "2021"))
        for each in (early, late):
            move(model.url, CHALLENGER, each.name, kind="set")
        promote(model, late, override="start")
        promote(model, early, override="complaints")
        assert list(rolled_back(model.url, CHAMPION)) == [late.name]

    def test_the_last_verdict_is_the_one_that_was_kept_last(self, model: Model) -> None:
        made = version(model, "20260101T120000-11111111")
        told = {"champion": None, "passed": True, "judged": "2031-01-01T00:00:00+00:00"}
        kept, _ = verdicts.keep(model, made, {**told, "inputs": "a"})
        assert kept["number"] == 1
        verdicts.keep(model, made, {**told, "inputs": "b", "passed": False, "judged": "2021-01-01T00:00:00+00:00"})
        with pytest.raises(GateError, match="did not pass its last gate"):
            promote(model, made)
        assert verdicts.keep(model, made, kept)[0]["number"] == 1, "the same one again is not a newer one"
        verdicts.keep(model, made, {**told, "inputs": "c"})
        assert promote(model, made).record is not None

    def test_verdicts_of_an_earlier_sortase_come_first(self, model: Model) -> None:
        """They have only times, which tell them apart."""
        made = version(model, "20260101T120000-11111111")
        folder = storage.join(model.url, "gates", made.name)
        for year, passed in ((2031, True), (2029, False)):
            told = {"champion": None, "passed": passed, "judged": f"{year}-01-01T00:00:00+00:00", "inputs": str(year)}
            storage.write_json(storage.join(folder, f"{year}.json"), told)
        found = verdicts.newest(model, made, None)
        assert found is not None and found[0]["inputs"] == "2031"
        verdicts.keep(model, made, {"champion": None, "passed": False, "judged": "2021", "inputs": "x"})
        found = verdicts.newest(model, made, None)
        assert found is not None and found[0]["inputs"] == "x"
