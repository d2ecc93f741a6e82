"""The timeline of a run: in parts that do not grow, joined by its readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortase import storage
from sortase.errors import InputError
from sortase.runs.events import PART_BYTES, Events, read_events
from sortase.runs.folder import RunFolder


def steps(folder: RunFolder) -> list[int]:
    return [line["step"] for line in read_events(folder) if line["stage"] == "train"]


def begun(root: str) -> tuple[RunFolder, Events]:
    folder = RunFolder(storage.join(root, "run"))
    folder.begin()
    return folder, Events(folder)


def test_a_flush_writes_no_more_than_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came before: a training of 20,000 steps has written each line a few times at most."""
    sizes: list[int] = []
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda url, data: (sizes.append(len(data)), write(url, data)))
    folder, events = begun(str(tmp_path))
    sizes.clear()
    for step in range(20_000):
        events.write("train", "log", step=step, loss=0.5, tokens_per_second=1234.5)
        if step % 100 == 0:
            events.flush()
    events.flush()
    assert steps(folder) == list(range(20_000))
    assert max(sizes) < PART_BYTES + 20_000
    whole = sum(info.size for info in storage.list_files(folder.path("events")).values())
    assert len(storage.list_files(folder.path("events"))) == pytest.approx(whole / PART_BYTES, abs=1.5)


def test_what_a_held_attempt_tells_late_is_forgotten(root: str) -> None:
    first, early = begun(root)
    early.write("train", "log", step=1)
    early.flush()
    early.write("train", "log", step=2)
    later, events = begun(root)
    events.rewind("train", 1)
    events.write("train", "log", step=2, of="later")
    events.flush()
    early.flush()
    early.write("train", "log", step=3)
    early.flush()
    assert steps(later) == [1, 2]
    assert read_events(later)[-1]["of"] == "later"
    assert (first.number, later.number) == (1, 2)


def test_two_processes_of_an_attempt_take_turns(tmp_path: Path) -> None:
    folder, driver = begun(str(tmp_path))
    driver.write("train", "start")
    driver.flush()
    worker = Events(RunFolder(folder.url, number=folder.number))
    worker.write("train", "log", step=1)
    worker.flush()
    driver.another_writes()
    driver.write("train", "end", step=1)
    driver.flush()
    assert [line["event"] for line in read_events(folder)] == ["start", "log", "end"]


def test_a_timeline_of_an_earlier_release_is_gone_on_with(tmp_path: Path) -> None:
    folder, events = begun(str(tmp_path))
    storage.write_bytes(folder.path("events.jsonl"), b'{"stage": "train", "event": "log", "step": 1}\n')
    events.write("train", "log", step=2)
    events.flush()
    assert steps(folder) == [1, 2]
    storage.write_bytes(folder.path("events", "00001-000009-x.jsonl"), b'{"stage": "train"}\n{"sta')
    with pytest.raises(InputError, match=r"00001-000009-x\.jsonl holds a line that is not JSON .*; remove that line"):
        read_events(folder)
