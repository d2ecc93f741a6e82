"""Whole runs from run.yaml, in a local folder and on an S3 server, through the command itself."""

import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset

from makers import architecture, rows
from sortase import storage
from sortase.cli import main
from sortase.runs.events import read_events
from sortase.runs.folder import RunFolder

STAGES = ["prepare", "train", "evaluate", "predict", "report"]


def cells(n: int = 120, seed: int = 0) -> Dataset:
    ids = rows(n, seed)
    return Dataset.from_dict(
        {"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids], "donor": [f"d{i % 6}" for i in range(n)]}
    )


@pytest.fixture
def config(tmp_path: Path, root: str) -> Path:
    """A run.yaml over a small dataset; outputs go to ``root``."""
    cells().save_to_disk(str(tmp_path / "cells.dataset"))
    cells(17, seed=3).remove_columns("cell_type").save_to_disk(str(tmp_path / "new.dataset"))
    for name in ("cells.dataset", "new.dataset"):
        storage.upload(tmp_path / name, storage.join(root, "input", name))
    settings = {
        "run": {"name": "small", "output": storage.join(root, "runs")},
        "data": {"dataset": storage.join(root, "input", "cells.dataset")},
        "labels": {"task": "sequence", "column": "cell_type"},
        "split": {"strategy": "group", "column": "donor"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 50},
        "predict": {"dataset": storage.join(root, "input", "new.dataset"), "columns": ["donor"], "top_k": 2},
        "compute": {"device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def folder(config: Path, *parts: str) -> str:
    return storage.join(yaml.safe_load(config.read_text())["run"]["output"], "small", *parts)


def test_run_goes_through_all_stages_and_then_skips_them(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-c", str(config)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == folder(config, "report.html")
    for stage in STAGES:
        assert f"{stage}: done" in said.err
    description = storage.read_json(folder(config, "run.json"))
    assert list(description["stages"]) == STAGES
    assert description["training"]["steps"] > 0
    assert description["versions"]["torch"]
    html = storage.read_bytes(folder(config, "report.html")).decode()
    assert "cell_type" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    before = storage.list_files(folder(config, "model"))
    assert main(["run", "-c", str(config)]) == 0
    said = capsys.readouterr()
    assert said.err.count("skipped") == len(STAGES)
    assert storage.list_files(folder(config, "model")) == before


def test_stages_one_by_one_give_the_same_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-c", str(config)]) == 2
    assert "run `sortase prepare` first" in capsys.readouterr().err
    for stage in STAGES:
        assert main([stage, "-c", str(config)]) == 0, capsys.readouterr().err
    with storage.open_input(folder(config, "unlabelled_predictions.parquet")) as file:
        table = pq.read_table(file)
    assert table.num_rows == 17
    assert {"row", "donor", "prediction", "probability", "prediction_2", "p_B", "p_N", "p_T"} <= set(table.column_names)
    assert table.column("row").to_pylist() == list(range(17))


@pytest.mark.parametrize("root", ["local"], indirect=True)
class TestLocally:
    """What does not depend on where files lie."""

    def test_changed_settings_are_refused_until_told_to_replace(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["run", "-c", str(config)]) == 0
        model = storage.fingerprint(folder(config, "model"))
        changed = ["run", "-c", str(config), "--set", "train.learning_rate=0.002"]
        assert main(changed) == 2
        assert "train.learning_rate 0.001 → 0.002" in capsys.readouterr().err
        assert storage.fingerprint(folder(config, "model")) == model
        assert main([*changed, "--replace"]) == 0
        assert storage.fingerprint(folder(config, "model")) != model

    def test_changed_data_are_noticed(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "-c", str(config)]) == 0
        data = yaml.safe_load(config.read_text())["data"]["dataset"]
        storage.remove(data)
        cells(121).save_to_disk(data)
        assert main(["run", "-c", str(config)]) == 2
        assert "finished with other inputs" in capsys.readouterr().err

    def test_report_of_an_unfinished_run_says_what_is_missing(self, config: Path) -> None:
        assert main(["prepare", "-c", str(config)]) == 0
        assert main(["report", "-c", str(config)]) == 0
        html = storage.read_bytes(folder(config, "report.html")).decode()
        assert "has not finished" in html

    def test_token_ids_beyond_the_model_stop_before_training(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small = yaml.safe_dump(architecture(vocab_size=30), default_flow_style=True, width=1000).strip()
        assert main(["run", "-c", str(config), "--set", f"model.config={small}"]) == 2
        assert "the model's vocabulary has 30 entries" in capsys.readouterr().err
        assert not storage.exists(folder(config, "model"))

    def test_events_and_marks_tell_the_story(self, config: Path) -> None:
        assert main(["run", "-c", str(config)]) == 0
        events = read_events(RunFolder(folder(config)))
        assert [e["stage"] for e in events if e["event"] == "start"] == STAGES
        assert any(e["event"] == "evaluate" and "eval_macro_f1" in e for e in events)

    def test_predictions_below_the_threshold_are_unknown(self, config: Path) -> None:
        assert main(["run", "-c", str(config), "--set", "predict.threshold=0.999"]) == 0
        with storage.open_input(folder(config, "unlabelled_predictions.parquet")) as file:
            assert set(pq.read_table(file).column("prediction").to_pylist()) == {"unknown"}


@pytest.mark.parametrize("root", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        pytest.param("data.dataset=nowhere.dataset", 2, "nowhere.dataset", id="missing dataset"),
        pytest.param("labels.column=celltype", 2, "cell_type", id="unknown column"),
        pytest.param("data.filter={donor: d99}", 2, "d99", id="filter that leaves nothing"),
        pytest.param("data.filter={cell_type: B}", 2, "class", id="one class left"),
        pytest.param("labels.mapping={B: 0, T: 1}", 2, "'N'", id="unseen label"),
        pytest.param("labels.mapping={B: 0, T: 1, N: 7}", 2, "7", id="ids with a gap"),
        pytest.param("train.lerning_rate=1", 2, "learning_rate", id="unknown argument"),
        pytest.param("model.freeze_layers=9", 2, "2 layers", id="more layers than there are"),
        pytest.param("run.output=ftp2://nowhere/x", 2, "ftp2", id="unknown storage"),
        pytest.param("compute.device=cuda", 3, "no usable GPU", id="no GPU"),
        pytest.param("predict.columns=[dona]", 2, "donor", id="unknown carried column"),
    ],
)
def test_bad_input_ends_with_its_exit_code(
    config: Path, override: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-c", str(config), "--set", override]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("root", ["local"], indirect=True)
def test_pickle_that_would_run_code_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload()))
    assert main(["run", "-c", str(config), "--set", f"model.tokenizer={tmp_path / 'evil.pkl'}"]) == 2
    assert "refused unexecuted" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("root", ["local"], indirect=True)
def test_run_without_a_test_side_trains_and_reports(config: Path) -> None:
    assert main(["run", "-c", str(config), "--set", "split={strategy: random, test_size: 0}"]) == 0
    assert storage.exists(folder(config, "model", "model.safetensors"))
    assert not storage.exists(folder(config, "evaluation.json"))
    assert storage.exists(folder(config, "report.html"))
