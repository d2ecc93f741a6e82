"""What makes a new generation: other rows or settings, and nothing else; the same seen from CI and from the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, load_from_disk

from retrain_data import cell_settings, sequence_settings, sequences
from sortase import storage
from sortase.config.load import check, dump, parse
from sortase.retrain.generation import data_fingerprint, settings_digests
from sortase.retrain.plan import generation_of


def config(folder: Path | str, **sections: Any) -> Any:
    return check(sequence_settings(folder, **sections))


class TestData:
    def test_one_label_that_is_corrected(self, tmp_path: Path) -> None:
        """In the middle of a file, with everything else as it was."""
        big = Dataset.from_dict(
            {"input_ids": [[7] * 400] * 20_000, "cell_type": ["a"] * 20_000, "side": ["x"] * 20_000}
        )
        big.save_to_disk(str(tmp_path / "data"))
        before = data_fingerprint(config(tmp_path))
        (file,) = (tmp_path / "data").glob("*.arrow")
        content = bytearray(file.read_bytes())
        place = content.rindex(b"aaaaaaaa") + 3
        content[place : place + 1] = b"b"
        file.write_bytes(content)
        assert data_fingerprint(config(tmp_path)) != before

    def test_the_same_rows_under_another_name_and_saved_again(self, tmp_path: Path) -> None:
        sequences(n=60).save_to_disk(str(tmp_path / "data"))
        again = load_from_disk(str(tmp_path / "data"))
        again._fingerprint = "another"  # as the library's own is after any transformation
        again.save_to_disk(str(tmp_path / "other"))
        assert (tmp_path / "other" / "state.json").read_text() != (tmp_path / "data" / "state.json").read_text()
        other = config(tmp_path, data={"dataset": f"{tmp_path}/other"})
        assert data_fingerprint(other) == data_fingerprint(config(tmp_path))
        assert settings_digests(other) == settings_digests(config(tmp_path))

    def test_remote_data_are_listed_and_not_read(
        self, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sequences(n=60).save_to_disk(str(tmp_path / "data"))
        storage.upload(tmp_path / "data", f"{s3_url}/data")
        read: list[str] = []
        actual = storage.read_bytes
        monkeypatch.setattr(storage, "read_bytes", lambda url: read.append(url) or actual(url))
        monkeypatch.setattr(storage, "fetch", lambda url: pytest.fail(f"{url} was copied"))
        found = data_fingerprint(config(s3_url))
        assert {url.rpartition("/")[2] for url in read} <= {"state.json"}
        sequences(n=60, seed=1).save_to_disk(str(tmp_path / "new"))
        storage.upload(tmp_path / "new", f"{s3_url}/data")
        assert data_fingerprint(config(s3_url)) != found


class TestSettings:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"compute": {"device": "cpu", "start_timeout": 99}}, id="where"),
            pytest.param({"evaluate": {"bootstrap": 1000}}, id="evaluation"),
            pytest.param({"gate": {"accuracy": 0.9}}, id="rules"),
            pytest.param({"card": {"license": "mit"}}, id="card"),
            pytest.param({"predict": None}, id="predictions"),
        ],
    )
    def test_what_shapes_no_model(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert settings_digests(config(tmp_path, **change)) == settings_digests(config(tmp_path))

    def test_parts_worked_on_at_a_time(self, tmp_path: Path) -> None:
        data = {"dataset": f"{tmp_path}/data", "nproc": 2}
        assert settings_digests(config(tmp_path, data=data)) == settings_digests(config(tmp_path))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"split": {"strategy": "random"}}, id="split"),
            pytest.param({"labels": {"column": "cell_type", "rename": {"a": "b"}}}, id="labels"),
            pytest.param({"run": {"name": "small", "seed": 8}}, id="seed"),
        ],
    )
    def test_what_shapes_the_model(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert settings_digests(config(tmp_path, **change)) != settings_digests(config(tmp_path))

    def test_the_content_of_files_counts(self, tmp_path: Path) -> None:
        for name, content in (("one.pkl", b"x"), ("two.pkl", b"x"), ("three.pkl", b"y")):
            (tmp_path / name).write_bytes(content)
        labels = {
            name: {"column": "cell_type", "vocabulary": f"{tmp_path}/{name}.pkl"} for name in ("one", "two", "three")
        }
        one, two, three = (settings_digests(config(tmp_path, labels=each)) for each in labels.values())
        assert one == two != three


def rendered(settings: dict[str, Any]) -> str:
    """run.yaml as the pod has it."""
    pytest.importorskip("helm_python")
    from sortase.deploy.chart import rendered as chart
    from sortase.deploy.submission import Submission

    objects = chart(Submission(check(settings), settings, "retrain"), {"groups": {"train": {"replicas": 2}}}, "n")
    (found,) = [each for each in objects if each["kind"] == "ConfigMap" and "run.yaml" in each["data"]]
    return str(found["data"]["run.yaml"])


@pytest.mark.parametrize("way", ["helm", "ray"])
def test_the_job_sees_the_generation_that_was_submitted(tmp_path: Path, way: str) -> None:
    """Helm writes 0.0 as 0, and words that look like numbers have to stay words."""
    sequences(n=60).save_to_disk(str(tmp_path / "data"))
    given = sequence_settings(
        tmp_path, data={"dataset": f"{tmp_path}/data", "filter": {"side": ["train", "1e5", "no"]}}
    )
    given["train"] |= {"weight_decay": 0.0, "learning_rate": 1e-5, "max_grad_norm": 1.0}
    written = dump(given) if way == "ray" else rendered(given)
    there = parse(written)
    assert there.data.filter == {"side": ["train", "1e5", "no"]}
    assert generation_of(there, None).name == generation_of(check(given), None).name


def test_the_job_sees_the_generation_of_real_cells(tmp_path: Path) -> None:
    (tmp_path / "cells.h5ad").write_bytes(b"x")
    given = cell_settings(tmp_path)
    assert generation_of(parse(rendered(given)), None) == generation_of(check(given), None)


@pytest.mark.parametrize(
    "word", ["1e5", "5e-5", "no", "true", "null", "0x1", "1_000", "12:30", "2026-01-01", "~", "1."]
)
def test_words_stay_words(word: str) -> None:
    settings = {"a": word, "b": {"c": [word, 1e-5, 0.0, 3, None, True]}}
    assert yaml.safe_load(dump({"a": "plain"})) == {"a": "plain"}
    from sortase.config.load import mapping

    assert mapping(dump(settings), "x") == settings
