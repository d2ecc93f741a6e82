"""Damaged, lost and unreadable files are said, and do not become another result."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from makers import VOCABULARY, architecture, rows, run_training, train_job
from patience import PATIENCE
from registry_data import NAMES, version
from retrain_data import sequence_settings
from sortase import GenericClassifier, predict_from_checkpoint, storage
from sortase.cli import main
from sortase.config.gate import GateSpec
from sortase.config.load import check
from sortase.config.prepare import DataSpec, LabelSpec
from sortase.config.tokenize import TokenizeSpec
from sortase.data.source import open_source
from sortase.drift.profile import profile
from sortase.errors import ExistingOutputError, InputError, MissingInputError, StorageError
from sortase.model.load import load_trained
from sortase.pipeline import stages
from sortase.pipeline.preflight_inputs import peek
from sortase.prepare.prepare import prepare
from sortase.prepare.tokenize import tokenize
from sortase.registry.models import Model
from sortase.registry.moves import move
from sortase.registry.names import CHAMPION
from sortase.retrain.evaluation_set import evaluated
from sortase.retrain.generation import lineage, settings_digests
from sortase.retrain.outcome import Outcome
from sortase.retrain.plan import Generation, RetrainPlan, held_back
from sortase.retrain.register import register
from sortase.runs.folder import RunFolder, contents
from sortase.runs.stop import listening
from sortase.train.checkpoints import Checkpoints
from sortase.train.leaderboard import Trial, take_model
from tokenize_data import annotated, matrix, saved

NOBODY = 65534
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def cells(n: int = 120, seed: int = 0) -> Dataset:
    ids = rows(n, seed)
    return Dataset.from_dict({"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids]})


class Made:
    """A finished run with its configuration; each test gets a copy."""

    def __init__(self, folder: Path):
        self.folder, self.config = folder, folder / "run.yaml"

    @property
    def run(self) -> RunFolder:
        return RunFolder(str(self.folder / "runs" / "small"))

    def path(self, *parts: str) -> Path:
        return Path(self.run.path(*parts))

    def do(self, stage: str, *options: str) -> int:
        return main([stage, "-c", str(self.config), *options])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    cells().save_to_disk(str(folder / "cells.dataset"))
    cells(17, seed=3).remove_columns("cell_type").save_to_disk(str(folder / "new.dataset"))
    (folder / "vocabulary.json").write_text(json.dumps({"<pad>": 0, **{f"G{i}": i for i in range(1, VOCABULARY)}}))
    settings = {
        "run": {"name": "small", "output": str(folder / "runs")},
        "data": {"dataset": str(folder / "cells.dataset")},
        "labels": {"column": "cell_type", "vocabulary": str(folder / "vocabulary.json")},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 50},
        "predict": {"dataset": str(folder / "new.dataset")},
        "compute": {"device": "cpu"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["run", "-c", str(folder / "run.yaml")]) == 0
    return folder


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Made:
    copy = Made(tmp_path / "copy")
    shutil.copytree(original, copy.folder)
    for path in (copy.config, copy.path("run.json"), *copy.path("stages").iterdir()):
        path.write_text(path.read_text().replace(str(original), str(copy.folder)))
    return copy


def flipped(path: Path) -> None:
    """Another byte in the middle; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_may_not_be_read_is_not_empty() -> None:
    top = Path(tempfile.mkdtemp())  # pytest's own is closed to others
    try:
        top.chmod(0o755)
        (top / "attempts").mkdir()
        (top / "attempts" / "00001.json").write_text("{}")
        (top / "attempts").chmod(0)
        with as_nobody(), pytest.raises(StorageError, match=f"cannot list {top}: PermissionError"):
            storage.list_files(str(top))
    finally:
        (top / "attempts").chmod(0o700)
        shutil.rmtree(top)


@pytest.mark.parametrize("name", ["./pretrained", "/nowhere/pretrained", "~/pretrained", "s3"])
def test_a_path_with_nothing_there_is_no_name_of_a_hub(name: str, request: pytest.FixtureRequest) -> None:
    name = f"{request.getfixturevalue('s3_url')}/pretrained" if name == "s3" else name
    assert contents(names=["someone/model", None]) == {}
    for find in (lambda: contents(names=[name]), lambda: contents(name)):
        with pytest.raises(MissingInputError, match="pretrained does not exist"):
            find()


def test_settings_are_known_by_the_files_that_were_read(tmp_path: Path) -> None:
    settings = sequence_settings(tmp_path, model={"checkpoint": str(tmp_path / "pretrained")})
    config = check(settings)
    with pytest.raises(MissingInputError, match="pretrained does not exist"):
        settings_digests(config)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "config.json").write_text("{}")
    whole = settings_digests(config)
    known = {str(tmp_path / "pretrained"): storage.fingerprint(str(tmp_path / "pretrained"))}
    shutil.rmtree(tmp_path / "pretrained")
    assert settings_digests(config, known) == whole


# Checkpoints


def trained(folder: Path, **settings: Any) -> Any:
    """A training whose best checkpoint is not its last, once more from its checkpoints alone."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    fitted, _ = run_training(folder, train_job(num_train_epochs=8, learning_rate=2e-2, **settings))
    return fitted.summary


def test_the_best_model_is_not_quietly_another_one(tmp_path: Path) -> None:
    summary = trained(tmp_path)
    best = tmp_path / "checkpoints" / f"step-{summary['best_step']:08d}"
    assert summary["best_step"] < summary["steps"]
    (file,) = best.glob("*/model.safetensors")
    content = file.read_bytes()
    flipped(file)
    with pytest.raises(StorageError, match=rf"the best checkpoint, of step {summary['best_step']}, is damaged.*Remove"):
        trained(tmp_path)
    file.write_bytes(content)
    (best / "manifest.json").write_text('{"step":')
    with pytest.raises(StorageError, match=r"manifest\.json is not valid JSON.*whether that checkpoint was the best"):
        trained(tmp_path)
    shutil.rmtree(best)
    assert trained(tmp_path)["best_step"] != summary["best_step"]


@pytest.mark.parametrize("manifest", ["", '{"step": 1}', '{"step": 2, "files": {}, "metric": null}', "[1]"])
def test_a_damaged_manifest_is_said_and_stays(manifest: str, tmp_path: Path) -> None:
    for step in (1, 2):
        folder = tmp_path / f"work-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
        checkpoints = Checkpoints(str(tmp_path / "kept"), 1, lambda: None)
        checkpoints.publish(folder, step, None)
        checkpoints.close()
        if step == 1:
            (tmp_path / "kept" / "step-00000001" / "manifest.json").write_text(manifest)
    said: list[str] = []
    found = Checkpoints(str(tmp_path / "kept"), 1, lambda: None).newest(tmp_path / "copy", said.append)
    assert found is not None and (found[0].step, said) == (2, [])
    shutil.rmtree(tmp_path / "kept" / "step-00000002")
    assert Checkpoints(str(tmp_path / "kept"), 1, lambda: None).newest(tmp_path / "copy", said.append) is None
    assert len(said) == 1 and "step-00000001/manifest.json is not" in said[0]


# The run folder


def test_an_attempt_whose_run_was_removed_stops(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "small"))
    folder.begin()
    folder.describe(name="small")
    shutil.rmtree(tmp_path / "small")
    with pytest.raises(StorageError, match="small/attempts is gone"):
        folder.describe(name="small")


def test_a_wish_to_stop_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.runs.stop.EVERY", 0.01)
    folder = RunFolder(str(tmp_path))
    folder.begin()
    (tmp_path / "stop.json").write_text('{"attempt"')
    heard, said, asked = threading.Event(), list[str](), threading.Event()

    def log(text: str) -> None:
        said.append(text)
        heard.set()

    with listening(folder, asked, log):
        assert heard.wait(PATIENCE)
        storage.write_json(folder.path("stop.json"), {"attempt": 1})
        assert asked.wait(PATIENCE)
    assert len(said) == 1 and "stop.json is not valid JSON" in said[0]


def test_a_trial_without_its_record_is_not_taken(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    storage.write_bytes(folder.path("tune", "trial-00000", "model", "model.safetensors"), b"1")
    with pytest.raises(StorageError, match=r"run\.json is not what trial-00000 made"):
        take_model(folder, Trial(number=0, parameters={}, status="done"))
    assert not storage.exists(folder.path("model"))


def test_data_without_their_mark_are_said_to_lack_it(tmp_path: Path) -> None:
    cells().save_to_disk(str(tmp_path / "cells"))
    labels = LabelSpec(column="cell_type")
    done = prepare(str(tmp_path / "cells"), DataSpec(), labels, str(tmp_path / "out"), "x")
    Path(done.dataset_path, "sortase.json").unlink()
    with pytest.raises(ExistingOutputError, match=r"exists without sortase\.json: it lost that file"):
        prepare(str(tmp_path / "cells"), DataSpec(), labels, str(tmp_path / "out"), "x")
    source = saved(tmp_path, annotated())
    tokenize(TokenizeSpec(input=source), str(tmp_path / "tokens"))
    (tmp_path / "tokens" / "tokenize.json").unlink()
    with pytest.raises(ExistingOutputError, match=r"is there without .*tokenize\.json: that file is lost"):
        tokenize(TokenizeSpec(input=source), str(tmp_path / "tokens"))


def test_classes_do_not_lose_their_names(root: str, tmp_path: Path) -> None:
    cells().class_encode_column("cell_type").save_to_disk(str(tmp_path / "cells"))
    (tmp_path / "cells" / "dataset_info.json").unlink()
    storage.upload(tmp_path / "cells", storage.join(root, "lacking"))
    look: Callable[[str], Any]
    for look in (open_source, peek):
        with pytest.raises(MissingInputError, match=r"lacking lacks its file dataset_info\.json"):
            look(storage.join(root, "lacking"))


# A source that is replaced


def replaced(path: str) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
    """A map for the second pass, before which the file is replaced."""

    def work(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        other = saved(Path(path).parent, annotated(matrix(seed=1)), "other.h5ad")
        Path(other).replace(path)
        return map(function, items)

    return work


def test_counts_that_are_replaced_between_the_passes(tmp_path: Path) -> None:
    one, two = saved(tmp_path, annotated(), "one.h5ad"), saved(tmp_path, annotated(), "two.h5ad")
    with pytest.raises(StorageError, match=r"two\.h5ad was replaced while it was read; give the command again"):
        tokenize(TokenizeSpec(input=[one, two]), str(tmp_path / "out"), map=replaced(two))
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_what_a_stage_reads_is_what_it_is_marked_with(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = made.folder / "again.dataset"
    cells(17, seed=4).remove_columns("cell_type").save_to_disk(str(data))
    real = stages._predict

    def then_replaced(run: Any) -> dict[str, Any]:
        result = real(run)
        shutil.rmtree(data)
        cells(17, seed=5).remove_columns("cell_type").save_to_disk(str(data))
        return result

    stage = next(stage for stage in stages.STAGES if stage.name == "predict")
    monkeypatch.setattr(stages, "_predict", then_replaced)
    object.__setattr__(stage, "work", then_replaced)
    try:
        assert made.do("predict", "--replace", "--set", f"predict.dataset={data}") == 3
    finally:
        object.__setattr__(stage, "work", real)
    assert f"what stage 'predict' reads was replaced while it was at work (files.{data}" in capsys.readouterr().err
    assert made.run.mark("predict") is None


# Models that are read without their run


def test_a_model_that_is_not_what_its_run_made(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = str(made.path("model")), str(made.folder / "new.dataset")
    asked = ["predict", "--model", model, "--dataset", data, "--output", str(made.folder / "found.parquet")]
    assert main(asked) == 0
    flipped(made.path("model", "model.safetensors"))
    assert main(asked) == 2
    assert f"{model}/model.safetensors is not what the run {made.run.url} made" in capsys.readouterr().err
    with pytest.raises(InputError, match="is not what the run"):
        predict_from_checkpoint(model, data)
    prepared = str(made.path("data", "run_labeled.dataset"))
    with pytest.raises(InputError, match="is not what the run"):
        GenericClassifier("cell_type").evaluate(model, prepared, None, str(made.folder / "scored"))
    shutil.copytree(model, made.folder / "mine")
    assert load_trained(str(made.folder / "mine"))


def test_a_model_that_a_training_left_in_a_folder_of_its_own(made: Made) -> None:
    classifier = GenericClassifier("cell_type", training_args={"num_train_epochs": 1}, nproc=1)
    prepared, out = str(made.path("data", "run_labeled.dataset")), made.folder / "out"
    trainer = classifier.train(str(made.path("model")), prepared, str(out))
    trainer.save_model()
    assert len(predict_from_checkpoint(str(out), prepared)) == 120
    flipped(out / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors is not what the run"):
        predict_from_checkpoint(str(out), prepared)


@pytest.mark.parametrize("root", ["local", "s3"], indirect=True)
def test_a_version_with_other_bytes_of_the_same_size(root: str, made: Made, tmp_path: Path) -> None:
    found = register(made.run, storage.join(root, "registry", "small"))
    assert load_trained(found.model)
    storage.download(found.path("model", "model.safetensors"), tmp_path / "weights")
    flipped(tmp_path / "weights")
    storage.upload(tmp_path / "weights", found.path("model", "model.safetensors"))
    found.check()
    with pytest.raises(InputError, match=rf"version {found.name} is damaged: \S+/model\.safetensors is not what was"):
        load_trained(found.model)


def test_a_version_with_a_file_that_nobody_registered(made: Made, tmp_path: Path) -> None:
    found = register(made.run, str(tmp_path / "registry" / "small"))
    Path(found.model, "model-00001-of-00001.safetensors").write_bytes(b"1")
    with pytest.raises(InputError, match=r"model-00001-of-00001\.safetensors is not what was"):
        load_trained(found.model)


# Registering and judging


def without_hashes(run: RunFolder) -> None:
    """As an earlier release has marked it."""
    for name, mark in run.stages().items():
        storage.write_json(run.path("stages", f"{name}.json"), {key: mark[key] for key in mark if key != "files"})


def test_a_version_lacks_nothing(made: Made, tmp_path: Path) -> None:
    without_hashes(made.run)
    made.path("data", "prepare.json").unlink()
    with pytest.raises(MissingInputError, match=r"data/prepare\.json"):
        register(made.run, str(tmp_path / "registry" / "small"))
    assert not (tmp_path / "registry" / "small" / "versions").exists()


def test_a_profile_needs_the_split(made: Made) -> None:
    made.path("data", "split.parquet").unlink()
    with pytest.raises(MissingInputError, match=r"split\.parquet"):
        profile(made.run)


def test_a_run_is_known_by_what_its_files_held(made: Made) -> None:
    """Also when they are other ones by now, or gone."""
    before = lineage(made.run)
    (made.folder / "vocabulary.json").write_text(json.dumps({"<pad>": 0, "G1": 1}))
    assert lineage(made.run)["config"] == before["config"]
    (made.folder / "vocabulary.json").unlink()
    assert lineage(made.run)["config"] == before["config"]


def test_a_version_is_judged_on_the_rows_that_it_was_made_with(made: Made, tmp_path: Path) -> None:
    found = register(made.run, str(tmp_path / "registry" / "small"))
    config = check(made.run.description()["config"])
    assert len(evaluated(found, config, GateSpec(accuracy=0.1)).test)
    (shard,) = made.path("data", "run_labeled.dataset").glob("*.arrow")
    flipped(shard)
    with pytest.raises(StorageError, match=rf"{shard.name} is not what the run of {found.name} was made from"):
        evaluated(found, config, GateSpec(accuracy=0.1))
    shutil.rmtree(shard.parent)
    with pytest.raises(MissingInputError, match="are gone or were made again since"):
        evaluated(found, config, GateSpec(accuracy=0.1))


def test_what_was_rolled_back_and_is_lost_holds_back(tmp_path: Path) -> None:
    model = Model(str(tmp_path / "registry" / "small"), "small")
    for number, name in enumerate(NAMES[:2]):
        version(model, name)
        move(model.url, CHAMPION, name, kind="promote", gate=None, override=None, by="person", why=str(number))
    move(model.url, CHAMPION, NAMES[0], kind="rollback", gate=None, override=None, why="worse")
    settings = sequence_settings(tmp_path)
    generation = Generation("d", "c", {}, None, None)

    def due(promote: bool) -> RetrainPlan:
        config = check({**settings, "retrain": {**settings.get("retrain", {}), "promote": promote}})
        return RetrainPlan(config, GateSpec(accuracy=0.1), model, generation)

    said: list[str] = []
    assert held_back(due(True), Outcome(model="small"), said.append)
    shutil.rmtree(Path(model.url, "versions", NAMES[1]))
    with pytest.raises(
        MissingInputError, match=rf"{NAMES[1]}, which was rolled back .*: worse, is gone .*promote: false"
    ):
        held_back(due(True), Outcome(model="small"), said.append)
    assert not held_back(due(False), Outcome(model="small"), said.append)


def test_the_manifest_of_a_checkpoint_says_which_step(tmp_path: Path) -> None:
    """One of another folder is none."""
    url = tmp_path / "step-00000003"
    url.mkdir()
    (url / "manifest.json").write_text(json.dumps({"step": 4, "files": {}, "metric": None}))
    said: list[str] = []
    assert Checkpoints(str(tmp_path), None, lambda: None).newest(tmp_path / "copy", said.append) is None
    assert "is not the manifest of that checkpoint" in said[0]
