"""Scoring on Ray actors gives what one process gives, also when actors are killed or fail."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from makers import architecture, dataset  # noqa: E402
from patience import PATIENCE  # noqa: E402
from score_data import assert_same_evaluation, assert_same_results, assert_same_table, place  # noqa: E402
from sortase.cluster.actors import actor_map  # noqa: E402
from sortase.cluster.executor import executor_for  # noqa: E402
from sortase.config.compute import TaskGroup  # noqa: E402
from sortase.config.run import Config  # noqa: E402
from sortase.errors import CancelledError, InfrastructureError, InputError, WorkFailedError  # noqa: E402
from sortase.model.task import TASKS  # noqa: E402
from sortase.pipeline.run import run  # noqa: E402
from sortase.stopping import heeding  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def on_ray(s3_server: str) -> Iterator[None]:
    """Started after the S3 server, whose address the actors inherit. This file is none that they could import."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, resources={"shelf": 1})
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


TWO = TaskGroup(workers=2)


def once(path: str) -> bool:
    """Whether this is the first call with this path, in any process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def killing(flag: str, number: int, function: Any, item: Any) -> Any:
    """Do the item, and kill the process once after ``number``, before the result leaves it."""
    result = function(item)
    if item.number == number and once(flag):
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def killing_map(flag: Path, number: int) -> Any:
    """Actors of which one is killed."""

    def mapped(function: Any, items: Any) -> Any:
        return actor_map(TWO)(partial(killing, str(flag), number, function), items)

    return mapped


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TASKS))
def test_an_evaluation_on_actors_is_that_of_one_process(kind: str, root: str, tmp_path: Path) -> None:
    made = place(root, kind, tmp_path)
    made.evaluate("here")
    made.evaluate("there", actor_map(TWO))
    assert_same_evaluation(made, "here", "there")


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TASKS))
def test_predictions_on_actors_are_those_of_one_process(kind: str, root: str, tmp_path: Path) -> None:
    made = place(root, kind, tmp_path)
    counts = made.predict("here.parquet", columns=["donor"])
    assert made.predict("there.parquet", actor_map(TWO), columns=["donor"]) == counts
    assert_same_table(made.url("here.parquet"), made.url("there.parquet"))


@pytest.mark.slow
def test_a_killed_actor_costs_only_its_part_of_an_evaluation(root: str, tmp_path: Path) -> None:
    made = place(root, "token", tmp_path)
    made.evaluate("here", hidden=True)
    made.evaluate("there", killing_map(tmp_path / "killed", 3), hidden=True)
    assert (tmp_path / "killed").exists()
    assert_same_evaluation(made, "here", "there")


@pytest.mark.slow
def test_a_killed_actor_costs_only_its_part_of_predictions(root: str, tmp_path: Path) -> None:
    made = place(root, "sequence", tmp_path)
    counts = made.predict("here.parquet")
    assert made.predict("there.parquet", killing_map(tmp_path / "killed", 0)) == counts
    assert (tmp_path / "killed").exists()
    assert_same_table(made.url("here.parquet"), made.url("there.parquet"))


def noting(sent: list[str], mapped: Any, function: Any, items: Any) -> Any:
    """The map, with a note of the file that it makes."""
    sent.append(Path(function.folder).parent.name.removesuffix(".parts"))
    return mapped(function, items)


@pytest.mark.slow
def test_a_run_whose_scores_come_from_actors_has_the_same_results(tmp_path: Path) -> None:
    sent: list[str] = []
    dataset(n=100).rename_column("label", "kind").save_to_disk(str(tmp_path / "data"))
    for name, workers in (("here", 0), ("there", 2)):
        settings: dict[str, Any] = {
            "run": {"name": name, "output": str(tmp_path)},
            "data": {"dataset": str(tmp_path / "data")},
            "labels": {"task": "sequence", "column": "kind"},
            "model": {"config": architecture()},
            "train": {"num_train_epochs": 1},
            "evaluate": {"bootstrap": 30, "batch_size": 1},
            "predict": {"dataset": str(tmp_path / "data"), "batch_size": 2},
            "compute": {"device": "cpu", "score": {"workers": workers}},
        }
        config = Config.model_validate(settings)
        with executor_for(config.compute) as executor:
            if executor.score_map is not None:
                executor.score_map = partial(noting, sent, executor.score_map)
            run(config, executor=executor)
    assert sent == ["predictions.parquet", "unlabelled_predictions.parquet"]
    assert_same_results(str(tmp_path / "here"), str(tmp_path / "there"))
    name = "unlabelled_predictions.parquet"
    assert_same_table(str(tmp_path / "here" / name), str(tmp_path / "there" / name))
    assert not list((tmp_path / "there").rglob("*.parts"))


def test_an_error_in_a_part_arrives_with_its_words(tmp_path: Path) -> None:
    made = place(str(tmp_path), "sequence", tmp_path)
    made.evaluate("here")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model.safetensors; training it may not have finished"):
        made.evaluate("there", actor_map(TWO))
    assert not list(tmp_path.glob("there/*"))


class Counted:
    """Opens something once a process, as a model is; says so in files."""

    def __init__(self, folder: Path):
        self.folder, self.opened = folder, False

    def __call__(self, number: int) -> tuple[int, int]:
        if not self.opened:
            (self.folder / f"opened-{os.getpid()}-{time.time_ns()}").touch()
            self.opened = True
        time.sleep(0.3 if number == 0 else 0.01)
        return number, os.getpid()


def test_results_keep_their_order_and_each_process_opens_once(tmp_path: Path) -> None:
    found = list(actor_map(TWO)(Counted(tmp_path), range(20)))
    assert [number for number, _ in found] == list(range(20))
    processes = {process for _, process in found}
    opened = list(tmp_path.glob("opened-*"))
    assert len(opened) == len(processes) <= 2
    assert os.getpid() not in processes


def tried(folder: Path, number: int) -> int:
    with (folder / f"item-{number}").open("a") as file:
        file.write("x")
    if number == 2:
        raise InputError("row 17 is odd")
    if number == 5:
        raise KeyError("no such thing")
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_errors_keep_their_type_and_are_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 17 is odd"):
        list(actor_map(TWO)(partial(tried, tmp_path), range(4)))
    assert (tmp_path / "item-2").read_text() == "x"
    with pytest.raises(WorkFailedError, match="KeyError: 'no such thing'"):
        list(actor_map(TWO)(partial(tried, tmp_path), [5]))


def test_a_part_that_always_kills_its_actor_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(
        InfrastructureError,
        match=r"workers died 4 times doing part 1: The actor is dead because its worker process has died",
    ):
        list(actor_map(TWO)(partial(tried, tmp_path), [6, 7, 8]))
    assert (tmp_path / "item-7").read_text() == "xxxx"


class Foreign:
    """What no worker can make again, as if its package were missing there."""

    def __reduce__(self) -> Any:
        return os.listdir, ("/no/such/folder",)

    def __call__(self, item: Any) -> Any:
        return item


def test_workers_that_cannot_start_say_why() -> None:
    with pytest.raises(InfrastructureError, match=r"died 4 times while they started: FileNotFoundError"):
        list(actor_map(TaskGroup(workers=1))(Foreign(), [1]))


def test_asking_for_more_than_there_is_ends_with_what_there_is() -> None:
    group = TaskGroup(workers=1, cpus=3, resources={"shelf": 1})
    with pytest.raises(InfrastructureError, match=r"asks for CPU 3, shelf 1, free in the cluster is .*CPU 2"):
        list(actor_map(group, start_timeout=2)(abs, [1]))


def test_one_actor_is_enough_where_there_is_no_room_for_more() -> None:
    group = TaskGroup(workers=3, cpus=0.5, resources={"shelf": 1})
    assert list(actor_map(group)(abs, range(-5, 0))) == [5, 4, 3, 2, 1]


def process(number: int) -> int:
    return os.getpid()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_alive(pid)


def test_actors_end_with_the_results_and_when_closed_early() -> None:
    one = TaskGroup(workers=1)
    (pid,) = actor_map(one)(process, [0])
    assert gone(pid)
    results = actor_map(one)(process, range(10))
    pid = next(results)
    results.close()
    assert gone(pid)


def held(folder: Path, number: int) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(PATIENCE)


def test_who_has_to_stop_ends_actors_at_work(tmp_path: Path) -> None:
    at_work = tmp_path / "pid"

    def asked() -> bool:
        return at_work.exists() and bool(at_work.read_text())

    with pytest.raises(CancelledError, match=r"^stopped$"), heeding(asked, "stopped"):
        list(actor_map(TWO)(partial(held, tmp_path), [0]))
    assert gone(int(at_work.read_text()))


def test_no_item_needs_no_actor() -> None:
    assert list(actor_map(TaskGroup(workers=1, cpus=99))(abs, [])) == []
