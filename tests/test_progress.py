"""Progress: what a person, a log file and a silent process see."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import termios
import types
from collections.abc import Iterator
from typing import Any

import pytest

from patience import PATIENCE
from sortase import progress
from sortase.progress import Progress, track


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SORTASE_PROGRESS")


def test_lines_when_nobody_watches(loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress(2000, "tokenize") as bar:
        bar.update(500)
        bar.update(1500)
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert re.fullmatch(r"tokenize: 500 of 2,000 rows, [\d,.]+/s, [\d,]+ s left", first)
    assert re.fullmatch(r"tokenize: 2,000 of 2,000 rows, [\d,.]+/s, 0 s left", last)
    assert out == ""


def test_lines_without_a_total(loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress(None, "upload", unit="files") as bar:
        bar.update(3)
    assert re.fullmatch(r"upload: 3 files, [\d,.]+/s\n", capsys.readouterr().err)


def test_more_than_the_total_leaves_no_negative_time(
    loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress(1, "read") as bar:
        bar.update(1_000_000)
    assert capsys.readouterr().err.endswith("/s, 0 s left\n")


def test_lines_come_now_and_then(loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress, "LINE_SECONDS", 100.0)
    for _ in track(range(1000), 1000, "read"):
        pass
    assert 8 <= len(capsys.readouterr().err.splitlines()) <= 10


@pytest.mark.parametrize("watched", [True, False])
def test_silence(watched: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("SORTASE_PROGRESS", "0")
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    assert list(track(iter("abc"), 3, "read")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_an_item_is_done_when_the_next_is_asked_for(
    loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    items = track("ab", 2, "read")
    assert next(items) == "a" and capsys.readouterr().err == ""
    assert next(items) == "b" and capsys.readouterr().err.startswith("read: 1 of 2 rows")
    assert list(items) == [] and capsys.readouterr().err.startswith("read: 2 of 2 rows")


def test_a_failing_item_ends_the_progress(loud: None) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("broken row")

    with pytest.raises(LookupError, match="broken row"):
        list(track(items(), 2, "read"))


def test_a_widget_in_a_notebook(loud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's stderr is no terminal; tqdm.auto chooses the widget where the notebook has some."""

    class OutStream(io.StringIO):
        """As a kernel of Jupyter has it."""

    stream = types.ModuleType("ipykernel.iostream")
    stream.OutStream = OutStream  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel.iostream", stream)
    monkeypatch.setattr(sys, "stderr", OutStream())
    made: list[tuple[Any, ...]] = []

    class Bar:
        def __init__(self, **settings: Any):
            made.append((settings["desc"], settings["total"]))

        def update(self, n: int) -> None:
            made.append(("update", n))

        def close(self) -> None:
            made.append(("close",))

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    assert list(track("ab", 2, "read")) == ["a", "b"]
    assert made == [("read", 2), ("update", 1), ("update", 1), ("close",)]
    assert sys.stderr.getvalue() == ""


BAR = "from sortase.progress import track; [print(i) for i in track(range(3), 3, 'train', unit='steps')]"


@pytest.mark.parametrize("silent", [False, True])
def test_a_bar_on_a_terminal(silent: bool) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "SORTASE_PROGRESS": "0" if silent else "1"}
    done = subprocess.run(
        [sys.executable, "-c", BAR],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        check=True,
        timeout=PATIENCE,
    )
    os.close(theirs)
    seen = _read(ours)
    os.close(ours)
    assert done.stdout.split() == [b"0", b"1", b"2"]
    if silent:
        assert seen == ""
    else:
        assert "\r" in seen
        assert re.search(r"train: 100%\|.*3/3 .*steps", seen)


def _read(terminal: int) -> str:
    """All that was written to a terminal that nobody holds open any more."""
    seen = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:
            return seen.decode()
        if not block:
            return seen.decode()
        seen += block
