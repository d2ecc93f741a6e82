"""Logs of real processes, and the outcomes of attempts, in a local folder and on an S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from cluster_data import wait_until
from makers import architecture, rows
from patience import PATIENCE
from sortase import storage
from sortase.cli import main
from sortase.errors import CancelledError, FencedError, InputError, WorkFailedError
from sortase.runs.attempts import attempted, outcomes
from sortase.runs.events import read_events
from sortase.runs.folder import RunFolder
from sortase.runs.logs import logs_of, read_logs, tail_logs

BEGIN = """
import os, signal, subprocess, sys, threading, time
from sortase.errors import ConfigError
from sortase.runs import logs, capture
from sortase.runs.logs import LogDestination, kept_logs
logs.FLUSH_SECONDS = 0.05
place = LogDestination(sys.argv[1])
"""
SECRET = "correct-horse-battery"


def start(code: str, url: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code), storage.join(url, "logs", "attempt-1")],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(code: str, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start(code, url, **environment)
    out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def log(url: str, name: str = "attempt-1/driver") -> str:
    return b"".join(content for _, content in read_logs(url, name)).decode()


def test_everything_is_kept_and_still_goes_where_it_went(root: str) -> None:
    done = ended(
        """
        print("before")
        with kept_logs(place, "driver"):
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.write(1, b"by number\\n")
            subprocess.run(["sh", "-c", "echo of a child; echo of its stderr >&2"])
            os.write(2, b"without an end")
        print("after")
        """,
        root,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["before", "to stdout", "by number", "of a child", "after"]
    assert done.stderr.splitlines() == ["to stderr", "of its stderr", "without an end"]
    lines = ["to stdout", "to stderr", "by number", "of a child", "of its stderr", "without an end"]
    assert sorted(log(root).splitlines()) == sorted(lines)


def test_a_killed_process_leaves_what_was_written_before(root: str) -> None:
    process = start(
        """
        with kept_logs(place, "driver"):
            print("it began")
            time.sleep(600)
        """,
        root,
    )
    try:
        wait_until(lambda: tail_logs(root, "attempt-1/driver"), "the first line")
    finally:
        process.kill()
        process.communicate()
    assert log(root) == "it began\n"


@pytest.mark.parametrize("root", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("how", "code", "kept"),
    [
        pytest.param("1 / 0", 1, ["line", "Traceback", "ZeroDivisionError: division by zero"], id="error"),
        pytest.param("sys.exit(4)", 4, ["line"], id="exit"),
        pytest.param("raise ConfigError('no')", 1, ["ConfigError: no\n"], id="ours"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 5, ["line", "stopping"], id="SIGTERM"),
        pytest.param("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -2, ["KeyboardInterrupt"], id="SIGINT"),
    ],
)
def test_however_it_ends_all_is_kept(root: str, how: str, code: int, kept: list[str]) -> None:
    done = ended(
        f"""
        def stop(number, frame):
            print("stopping", file=sys.stderr)
            sys.exit(5)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without
        logs.FLUSH_SECONDS = 600
        with kept_logs(place, "driver"):
            print("line")
            {how}
        """,
        root,
    )
    assert done.returncode == code, done.stderr
    assert not [words for words in kept if words not in log(root)]
    assert "line\n" in done.stdout


def test_a_process_that_ends_inside_the_block_keeps_its_log(tmp_path: Path) -> None:
    ended(
        "logs.FLUSH_SECONDS = 600; kept = kept_logs(place, 'actor-0'); kept.__enter__(); print('line')", str(tmp_path)
    )
    assert log(str(tmp_path), "attempt-1/actor-0") == "line\n"


def test_a_child_that_outlives_the_block_can_go_on_writing(tmp_path: Path) -> None:
    done = ended(
        """
        with kept_logs(place, "driver"):
            child = subprocess.Popen(["sh", "-c", "echo early; read go; echo late; exit 7"], stdin=subprocess.PIPE)
            time.sleep(0.5)
        child.communicate(b"go\\n")
        sys.exit(child.returncode)
        """,
        str(tmp_path),
    )
    assert done.returncode == 7
    assert log(str(tmp_path)) == "early\n"


def test_where_pipes_have_one_size(root: str) -> None:
    """As on macOS, which has no F_SETPIPE_SZ."""
    done = ended(
        """
        import fcntl
        del fcntl.F_SETPIPE_SZ
        with kept_logs(place, "driver"):
            print("line " * 40_000)
        """,
        root,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert log(root) == done.stdout == "line " * 40_000 + "\n"


def test_a_forked_child_holds_nothing_up(tmp_path: Path) -> None:
    done = ended(
        """
        capture.DRAINING = 9000
        with kept_logs(place, "driver"):
            child = os.fork()
            if not child:
                time.sleep(9000)
            print("line")
        os.kill(child, signal.SIGKILL)
        """,
        str(tmp_path),
    )
    assert (done.returncode, log(str(tmp_path))) == (0, "line\n")


def test_secrets_are_kept_out(root: str, tmp_path: Path) -> None:
    done = ended(
        f"""
        with kept_logs(place, "driver"):
            print("the token is {SECRET}")
            print("s3://user:{SECRET}@host/bucket and password={SECRET}", flush=True)
            os.write(2, b"in two pieces: {SECRET[:5]}"); time.sleep(0.3); os.write(2, b"{SECRET[5:]}\\n")
        """,
        root,
        RAY_AUTH_TOKEN=SECRET,
        SORTASE_LOG_COPY=str(tmp_path / "copy"),
    )
    assert SECRET in done.stdout
    kept = log(root)
    assert kept.count("***") >= 4
    assert (tmp_path / "copy").read_text() == kept
    for name in storage.list_files(root):
        assert SECRET.encode() not in storage.read_bytes(storage.join(root, name))


MANY = """
logs.PART_BYTES = 1000
with kept_logs(place, "driver"):
    for number in range(200):
        print(f"line {number} " + "x" * 20)
        if number % 50 == 0:
            time.sleep(0.2)
"""


def test_a_long_log_goes_on_in_parts_and_a_second_process_after_them(root: str) -> None:
    assert ended(MANY, root).returncode == 0
    expected = [f"line {number} " + "x" * 20 for number in range(200)]
    assert log(root).splitlines() == expected
    ((name, parts),) = logs_of(storage.join(root, "logs", "attempt-1")).items()
    assert name == "driver"
    assert [file for file, _ in parts][:2] == ["driver.log", "driver.2.log"]
    assert len(parts) > 5
    assert all(0 < size <= 1000 for _, size in parts)
    assert ended(MANY, root).returncode == 0
    assert log(root).splitlines() == expected * 2


def test_the_tail_is_what_comes_after_an_offset(root: str) -> None:
    url, name = storage.join(root, "logs", "attempt-3"), "attempt-3/rank-0"
    assert tail_logs(root, name) == b""
    storage.write_bytes(storage.join(url, "rank-0.log"), b"0123")
    assert tail_logs(root, name) == b"0123"
    assert tail_logs(root, name, 4) == b""
    storage.write_bytes(storage.join(url, "rank-0.log"), b"0123456789")
    storage.write_bytes(storage.join(url, "rank-0.2.log"), b"abc")
    storage.write_bytes(storage.join(url, "rank-01.log"), b"another")
    assert [tail_logs(root, name, offset) for offset in (4, 10, 12, 13, 99)] == [b"456789abc", b"abc", b"c", b"", b""]


def test_logs_are_read_in_order(root: str) -> None:
    files = ["attempt-10/driver", "attempt-2/train-rank-10", "attempt-2/train-rank-9", "attempt-2/driver"]
    for number in (1, 2, 10):
        files.append(f"attempt-2/prepare-0.{number}" if number > 1 else "attempt-2/prepare-0")
    for file in files:
        storage.write_bytes(storage.join(root, "logs", *f"{file}.log".split("/")), file.encode())
    assert [content.decode().removeprefix("attempt-") for _, content in read_logs(root)] == [
        "2/driver",
        "2/prepare-0",
        "2/prepare-0.2",
        "2/prepare-0.10",
        "2/train-rank-9",
        "2/train-rank-10",
        "10/driver",
    ]
    with pytest.raises(InputError, match="attempt-10/driver"):
        list(read_logs(root, "attempt-1/driver"))


def test_storage_that_fails_does_not_fail_the_work(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    code = """
        with kept_logs(place, "driver"):
            print("line")
            time.sleep(0.5)
            {remedy}
            print("last")
        """
    done = ended(code.format(remedy=""), str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "line\nlast\n")
    assert done.stderr.count("driver is not kept at the moment") == 1
    remedy = "os.remove(os.path.dirname(sys.argv[1]))"
    done = ended(code.format(remedy=remedy), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert log(str(tmp_path)) == "line\nlast\n"


def test_output_that_storage_does_not_take_is_bounded_in_memory(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    done = ended(
        """
        logs.MOST_WAITING = logs.PART_BYTES = 1000
        with kept_logs(place, "driver"):
            for number in range(300):
                print("x" * 99)
            time.sleep(0.5)
            os.remove(os.path.dirname(sys.argv[1]))
            time.sleep(1)
            print("last")
        """,
        str(tmp_path),
    )
    assert done.stdout.count("\n") == 301
    kept = log(str(tmp_path))
    assert len(kept) < 2500
    assert "bytes were not kept" in kept
    assert kept.endswith("last\n")


def test_logs_do_not_make_the_work_wait_less_long_for_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.errors import StorageError
    from sortase.storage import retry

    def refused() -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(retry, "IMPATIENT", 0.01)
    before = retry._budget()
    with pytest.raises(StorageError), retry.aside(), storage.impatiently():
        retry.attempt(refused, "write", "s3://b/k")
    assert retry._budget() == before


def test_a_copy_that_cannot_be_opened_is_said_once(tmp_path: Path) -> None:
    code = "with kept_logs(place, 'driver'):\n    print('line')"
    done = ended(code, str(tmp_path), SORTASE_LOG_COPY=str(tmp_path / "none" / "copy"))
    assert done.returncode == 0
    assert done.stderr.count("SORTASE_LOG_COPY") == 1
    assert log(str(tmp_path)) == "line\n"


@pytest.fixture
def config(tmp_path: Path, root: str) -> Path:
    ids = rows(120)
    cells = Dataset.from_dict({"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids]})
    cells.save_to_disk(str(tmp_path / "cells.dataset"))
    storage.upload(tmp_path / "cells.dataset", storage.join(root, "cells.dataset"))
    settings = {
        "run": {"name": "small", "output": storage.join(root, "runs")},
        "data": {"dataset": storage.join(root, "cells.dataset")},
        "labels": {"column": "cell_type"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 0},
        "compute": {"device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def url_of(config: Path) -> str:
    return storage.join(yaml.safe_load(config.read_text())["run"]["output"], "small")


def sortase(command: str, config: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "sortase", command, "-c", str(config), *options]
    return subprocess.run(
        arguments, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE
    )


def timeline(url: str) -> list[tuple[str, int]]:
    """Outcomes told in the timeline."""
    events = read_events(RunFolder(url))
    return [(event["event"], event["attempt"]) for event in events if event["stage"] == "run"]


def test_every_attempt_leaves_its_log_and_its_outcome(config: Path) -> None:
    url = url_of(config)
    refused = sortase("run", config, "--set", "train.lerning_rate=1", SORTASE_LOGS="1")
    assert refused.returncode == 2, refused.stderr
    assert "did you mean" in log(url, "attempt-1/driver")
    refused = sortase("run", config, "--set", "labels.column=celltype", SORTASE_LOGS="1")
    assert refused.returncode == 2, refused.stderr
    assert "did you mean 'cell_type'" in log(url, "attempt-2/driver")
    assert sortase("prepare", config, SORTASE_LOGS="1").returncode == 0
    said = log(url, "attempt-3/driver")
    assert "prepare: done" in said
    assert url in said.splitlines()  # what goes to stdout and to stderr may change places
    assert RunFolder(url).holder()["number"] == 3
    found = outcomes(url)
    assert [(each["attempt"], each["state"], each["exit_code"]) for each in found] == [
        (1, "refused", 2),
        (2, "refused", 2),
        (3, "succeeded", 0),
    ]
    assert "lerning_rate" in found[0]["error"]
    assert found[1]["error"].startswith("InputError: unknown column")
    assert found[2]["error"] is None
    assert timeline(url) == [("refused", 1), ("refused", 2), ("succeeded", 3)]


@pytest.mark.parametrize("root", ["local"], indirect=True)
class TestOutcomes:
    def test_an_unexpected_error_leaves_its_traceback_and_exits_with_1(self, config: Path) -> None:
        code = "import sys; from sortase import cli; from sortase.pipeline import run; run.preflight = None; "
        done = subprocess.run(
            [sys.executable, "-c", f"{code}sys.exit(cli.main(['run', '-c', {str(config)!r}]))"],
            env={**os.environ, "SORTASE_LOGS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "TypeError: 'NoneType' object is not callable" in done.stderr
        assert "Traceback" in log(url_of(config), "attempt-1/driver")
        (outcome,) = outcomes(url_of(config))
        assert (outcome["state"], outcome["exit_code"]) == ("failed", 1)
        assert outcome["error"] == "TypeError: 'NoneType' object is not callable"

    def test_without_being_told_to_no_log_is_kept(self, config: Path) -> None:
        assert main(["prepare", "-c", str(config)]) == 0
        assert [each["state"] for each in outcomes(url_of(config))] == ["succeeded"]
        assert logs_of(storage.join(url_of(config), "logs")) == {}

    def test_what_was_refused_is_refused_at_once_in_the_same_words(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SORTASE_SUBMISSION", "first")
        assert main(["run", "-c", str(config), "--set", "labels.column=celltype"]) == 2
        words = capsys.readouterr().err.strip().removeprefix("sortase run: ")
        before = storage.list_files(url_of(config))
        assert main(["prepare", "-c", str(config)]) == 2
        assert f"this submission was refused before: {words}" in capsys.readouterr().err
        assert storage.list_files(url_of(config)) == before
        monkeypatch.setenv("SORTASE_SUBMISSION", "second")
        assert main(["prepare", "-c", str(config)]) == 0
        assert [each["submission"] for each in outcomes(url_of(config))] == ["first", "second"]

    @pytest.mark.parametrize(
        ("error", "state", "code"),
        [
            pytest.param(WorkFailedError("no"), "failed", 1, id="failed"),
            pytest.param(KeyboardInterrupt(), "cancelled", 5, id="interrupted"),
            pytest.param(MemoryError("of password=abcdefgh"), "failed", 1, id="foreign"),
        ],
    )
    def test_other_failures_are_told_and_may_be_repeated(
        self, config: Path, error: BaseException, state: str, code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SORTASE_SUBMISSION", "one")
        with monkeypatch.context() as patch:
            patch.setattr("sortase.pipeline.run.preflight", raising(error))
            try:
                assert main(["prepare", "-c", str(config)]) == code
            except MemoryError as raised:
                assert raised is error
        (outcome,) = outcomes(url_of(config))
        assert (outcome["state"], outcome["exit_code"]) == (state, code)
        assert "abcdefgh" not in json.dumps(outcome)
        assert main(["prepare", "-c", str(config)]) == 0

    def test_a_fenced_attempt_writes_its_own_outcome_only(self, root: str) -> None:
        url = storage.join(root, "run")
        from sortase.config.storage import StorageSpec

        with pytest.raises(FencedError), attempted(url, StorageSpec()) as attempt:
            attempt.begin()
            RunFolder(url).begin()
            attempt.folder.fence()
        assert [(each["attempt"], each["state"]) for each in outcomes(url)] == [(1, "cancelled")]
        assert not storage.list_files(storage.join(url, "events"))

    @pytest.mark.parametrize(
        ("error", "wished", "words"),
        [
            pytest.param(CancelledError("a node went"), None, None, id="interrupted"),
            pytest.param(CancelledError("asked"), 1, "was cancelled", id="asked to stop"),
            pytest.param(FencedError("attempt 2 came"), None, "taken over before: attempt 2 came", id="fenced"),
        ],
    )
    def test_a_retry_neither_undoes_a_cancellation_nor_fights_a_later_attempt(
        self,
        config: Path,
        error: Exception,
        wished: int | None,
        words: str | None,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SORTASE_SUBMISSION", "one")
        with monkeypatch.context() as patch:
            patch.setattr("sortase.pipeline.run.preflight", raising(error))
            assert main(["prepare", "-c", str(config)]) == 5
        if wished:
            storage.write_json(storage.join(url_of(config), "stop.json"), {"attempt": wished})
        capsys.readouterr()
        assert main(["prepare", "-c", str(config)]) == (5 if words else 0)
        assert (words or "") in capsys.readouterr().err
        monkeypatch.setenv("SORTASE_SUBMISSION", "another")
        assert main(["prepare", "-c", str(config)]) == 0

    def test_a_refused_attempt_leaves_the_timeline_to_the_one_at_work(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SORTASE_SUBMISSION", "one")
        RunFolder(url_of(config)).begin()
        assert main(["run", "-c", str(config), "--set", "labels.column=celltype"]) == 2
        assert [each["attempt"] for each in outcomes(url_of(config))] == [2]
        assert not storage.list_files(storage.join(url_of(config), "events"))

    def test_an_outcome_that_cannot_be_written_hides_nothing(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SORTASE_SUBMISSION", "one")
        Path(url_of(config)).mkdir(parents=True)
        Path(url_of(config), "logs").write_text("a file where a folder should be")
        assert main(["run", "-c", str(config), "--set", "labels.column=celltype"]) == 2
        said = capsys.readouterr().err
        assert "did you mean 'cell_type'" in said
        assert "the outcome of this attempt is not written" in said


def raising(error: BaseException) -> Any:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


SEARCH = {"trials": 1, "space": {"learning_rate": [1e-3]}}


@pytest.mark.slow
@pytest.mark.parametrize("root", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        pytest.param(
            {"compute": {"workers": 2, "prepare": {"workers": 1}}},
            ["prepare-0", "train-rank-0", "train-rank-1"],
            id="two workers",
        ),
        pytest.param({"tune": SEARCH, "compute": {}}, ["tune-trial-00000-rank-0"], id="trial"),
        pytest.param(
            {"tune": SEARCH, "compute": {"workers": 2}},
            ["tune-trial-00000-driver", "tune-trial-00000-rank-0", "tune-trial-00000-rank-1"],
            id="trial of two workers",
        ),
    ],
)
def test_all_processes_of_a_run_on_ray_leave_their_logs(
    config: Path, changes: dict[str, Any], names: list[str]
) -> None:
    pytest.importorskip("ray")
    settings = yaml.safe_load(config.read_text()) | {"split": {"test_size": 0, "validation_size": 0.2}}
    settings |= {**changes, "compute": {"device": "cpu", **changes["compute"]}}
    config.write_text(yaml.safe_dump(settings))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", OF_TWO_CPUS, str(config)],
        env={**environment, "SORTASE_LOGS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert list(logs_of(storage.join(url_of(config), "logs"))) == [f"attempt-1/{name}" for name in ("driver", *names)]
    assert f"{'tune' if 'tune' in changes else 'train'}: done" in log(url_of(config), "attempt-1/driver")
    assert [each["state"] for each in outcomes(url_of(config))] == ["succeeded"]


OF_TWO_CPUS = """
import sys
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, namespace="sortase", log_to_driver=False)
from sortase.cli import main
code = main(["run", "-c", sys.argv[1]])
ray.shutdown()
sys.exit(code)
"""
