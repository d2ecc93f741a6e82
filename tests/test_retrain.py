"""Retraining: nothing new, new data, a sabotaged generation, rollback; on small sequences and on real cells."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from patience import PATIENCE
from retrain_data import cell_settings, cells, sequence_settings, sequences, write
from retrain_place import Place
from sortase import predict_from_checkpoint, storage
from sortase.cli import main
from sortase.registry.models import Model
from sortase.registry.moves import history
from sortase.registry.versions import versions
from sortase.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path), tmp_path)


def test_generations_of_a_model(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First champion, no news, a better one, a sabotaged one, rollback: each twice, as CI may call it."""
    place = Place(root, tmp_path)
    place.data(n=60)
    code, first = place.retrain()
    assert (code, first["state"], first["champion"]) == (0, "promoted", None)
    code, again = place.retrain()
    assert (code, again["state"]) == (0, "nothing")
    assert "nothing to do" in capsys.readouterr().err

    place.data(n=240, seed=1)
    summary = place.folder / "summary.md"
    summary.write_text("# before\n")
    code, second = place.retrain("--summary", str(summary), "--who", "ann")
    assert (code, second["state"], second["champion"]) == (0, "promoted", first["version"])
    assert summary.read_text().startswith("# before\n\n## Retraining of small: promoted")
    assert second["moved"]["context"]["who"] == "ann"
    assert place.retrain()[1]["state"] == "nothing"

    place.data(n=240, seed=2, shuffled=True)
    for _ in range(2):
        code, bad = place.retrain()
        assert (code, bad["state"]) == (6, "refused")
        assert "did not pass the gate: macro_f1 is 0." in bad["words"]
    assert place.aliases == {"champion": second["version"], "challenger": bad["version"]}

    where = ["--registry", storage.join(place.root, "registry")]
    assert main(["rollback", "small", "--why", "complaints", *where]) == 0
    assert place.aliases["champion"] == first["version"]
    place.data(n=240, seed=1)
    code, undone = place.retrain()
    assert (code, undone["state"]) == (0, "waiting")
    assert "was rolled back by" in undone["words"]
    assert place.aliases["champion"] == first["version"]
    assert main(["promote", f"small@{second['version']}", *where]) == 6
    assert main(["promote", f"small@{second['version']}", "--override", "mended", *where]) == 0
    kinds = [each["kind"] for each in history(place.model.url, "champion")]
    assert kinds == ["promote", "promote", "rollback", "promote"]
    assert len(list(place.folder.glob("runs/*")) or storage.list_files(storage.join(place.root, "runs"))) >= 3


class TestWhatIsNew:
    def test_the_run_tells_its_generation_from_its_begin_on(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another call may register it at any time, and never with what its own settings, pins and all, would tell."""
        told = []
        describe = RunFolder.describe

        def noted(folder: RunFolder, **parts: Any) -> None:
            describe(folder, **parts)
            told.append(folder.read("run.json")["retrain"])

        monkeypatch.setattr(RunFolder, "describe", noted)
        place.data(n=60)
        place.retrain()
        place.data(n=80)
        place.retrain()
        assert len(told) > 8 and all(told)

    def test_going_on_from_the_champion(self, place: Place) -> None:
        place.data(n=60)
        place.retrain()
        news = place.retrain("--set", "retrain.from_champion=true")[1]["news"]
        assert news.startswith("the settings (from_champion)")

    def test_settings_that_shape_the_model(self, place: Place) -> None:
        place.data(n=60)
        first = place.retrain()[1]
        assert place.retrain("--set", "compute.start_timeout=99", "--set", "card.license=mit")[1]["state"] == "nothing"
        code, changed = place.retrain("--set", "train.num_train_epochs=7")
        assert code in (0, 6)
        assert changed["news"] == f"the settings (train) are not those of {first['version']}"

    def test_a_run_that_was_promoted_by_hand_is_known(self, place: Place) -> None:
        place.data(n=60)
        assert main(["run", "-c", place.config]) == 0
        assert main(["gate", "-c", place.config]) == 0
        assert main(["promote", "small", "-c", place.config]) == 0
        assert place.retrain()[1]["state"] == "nothing"


class TestLabels:
    def test_new_ones_are_refused_before_training(self, place: Place) -> None:
        place.data(n=60)
        place.retrain()
        self._with_new_label(place)
        code, refused = place.retrain()
        assert code == 2
        assert "'z'" in refused["words"]
        assert "labels.rename" in refused["words"]
        assert not storage.exists(storage.join(refused["run"], "model"))

    def test_mapped_by_rule_or_left_out(self, place: Place) -> None:
        place.data(n=60)
        place.retrain()
        self._with_new_label(place)
        for setting in ("retrain.new_labels=drop", 'labels.rename={"z": "a"}'):
            code, done = place.retrain("--set", setting)
            assert code in (0, 6), done["words"]
            assert ("the settings (labels)" if "rename" in setting else "the data are not") in done["news"]
            assert any(note.startswith("label 'z' (") for note in done["notes"]) == ("rename" in setting)
            classes = storage.read_json(storage.join(done["run"], "data", "run_id_class_dict.json"))
            assert sorted(classes) == ["a", "b", "c"]

    def test_a_label_that_vanishes_keeps_its_id(self, place: Place) -> None:
        place.data(n=120)
        place.retrain()
        data = sequences(n=120, seed=3)
        data = data.filter(lambda row: row["side"] == "test" or row["cell_type"] != "b")
        storage.remove(storage.join(place.root, "data"))
        data.save_to_disk(str(place.folder / "gone"))
        storage.upload(place.folder / "gone", storage.join(place.root, "data"))
        code, done = place.retrain()
        assert code == 6, "a class that is never learnt cannot pass"
        assert storage.read_json(storage.join(done["run"], "data", "run_id_class_dict.json"))["c"] == 2

    @staticmethod
    def _with_new_label(place: Place) -> None:
        data = sequences(n=60, seed=4)
        names = [("z" if i > 110 else name) for i, name in enumerate(data["cell_type"])]
        data = data.remove_columns("cell_type").add_column("cell_type", names)
        storage.remove(storage.join(place.root, "data"))
        data.save_to_disk(str(place.folder / "new"))
        storage.upload(place.folder / "new", storage.join(place.root, "data"))


def test_without_rules_nothing_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path / "retrain.yaml", {**sequence_settings(tmp_path), "gate": None})
    assert main(["retrain", "-c", config]) == 2
    assert "give rules in section 'gate'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["retrain.yaml"]


def test_a_person_promotes(tmp_path: Path) -> None:
    place = Place(str(tmp_path), tmp_path, retrain={"promote": False})
    place.data(n=60)
    code, done = place.retrain()
    assert (code, done["state"]) == (0, "waiting")
    assert place.aliases == {"challenger": done["version"]}
    assert main(["promote", "small", "-c", place.config]) == 0
    assert place.aliases["champion"] == done["version"]


def test_a_first_model_that_no_rule_judges_waits_for_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(str(tmp_path), tmp_path, gate={"macro_f1": ">= champion - 0.05", "bootstrap": 50})
    place.data(n=60)
    code, done = place.retrain()
    assert (code, done["state"], done["verdict"]["passed"]) == (0, "waiting", None)
    assert "no rule of the gate applies without a champion" in done["words"]
    assert place.aliases == {"challenger": done["version"]}
    assert main(["gate", "-c", place.config, "--version", "challenger"]) == 6
    assert "was NOT judged" in capsys.readouterr().out
    assert main(["promote", "small", "-c", place.config]) == 6
    assert "was not judged by its last gate" in capsys.readouterr().err
    code, done = place.retrain("--set", "gate.first=promote")
    assert (code, done["state"]) == (0, "promoted")
    assert place.aliases["champion"] == done["version"]


def test_from_the_champions_weights(tmp_path: Path) -> None:
    place = Place(str(tmp_path), tmp_path, retrain={"from_champion": True})
    place.data(n=120)
    first = place.retrain()[1]
    place.data(n=120, seed=5)
    code, second = place.retrain("--set", "train.num_train_epochs=1")
    assert code == 0, second["words"]
    come = place.model.version(second["version"]).record["lineage"]
    assert come["parents"] == [
        {"model": place.model.version(first["version"]).model, "version": first["version"]},
    ]


def test_a_frozen_set_of_its_own(tmp_path: Path) -> None:
    """With names of classes, as anybody has it; and one that the model was trained on is refused."""
    place = Place(str(tmp_path), tmp_path)
    place.data(n=120)
    rows = sequences(n=120)
    test, train = (rows.filter(lambda row, side=side: row["side"] == side) for side in ("test", "train"))
    test.save_to_disk(str(tmp_path / "frozen"))
    train.save_to_disk(str(tmp_path / "seen"))
    assert place.retrain("--set", f"gate.dataset={tmp_path}/frozen")[0] == 0
    assert main(["gate", "-c", place.config, "--version", "champion", "--set", f"gate.dataset={tmp_path}/seen"]) == 2


class TestServing:
    def test_by_the_registrys_name(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.data(n=60)
        version = place.retrain()[1]["version"]
        registry = storage.join(place.root, "registry")
        out = place.folder / "predictions.parquet"
        options = ["--dataset", storage.join(place.root, "data"), "--output", str(out), "--registry", registry]
        assert main(["predict", "--model", "registry://small@champion", *options, "--set", "predict.top_k=2"]) == 0
        table = pq.read_table(out)
        assert table.num_rows == 120
        assert "prediction_2" in table.column_names
        monkeypatch.setenv("SORTASE_REGISTRY", registry)
        ids = predict_from_checkpoint(f"registry://small@{version[-8:]}", storage.join(place.root, "data"))
        assert [("abc"[i]) for i in ids] == table.column("prediction").to_pylist()

    def test_other_weights_of_the_same_size_are_noticed(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        place.data(n=60)
        version = place.model.version(place.retrain()[1]["version"])
        weights = version.path("model", "model.safetensors")
        other = bytearray(storage.read_bytes(weights))
        other[-1] ^= 1
        storage.write_bytes(weights, bytes(other))
        registry = ["--registry", storage.join(place.root, "registry"), "--output", str(place.folder / "out.parquet")]
        for model in ("registry://small@champion", version.model):
            assert main(["predict", "--model", model, "--dataset", storage.join(place.root, "data"), *registry]) == 2
            assert "model.safetensors is not what was registered" in capsys.readouterr().err

    def test_by_transformers_alone(self, tmp_path: Path) -> None:
        from transformers import AutoModelForSequenceClassification

        place = Place(str(tmp_path), tmp_path)
        place.data(n=60)
        version = place.model.version(place.retrain()[1]["version"])
        loaded = AutoModelForSequenceClassification.from_pretrained(version.model)
        assert loaded.config.label2id == {"a": 0, "b": 1, "c": 2}
        card = (Path(version.model) / "README.md").read_text()
        assert card.startswith("---") and f"\n# small {version.name}\n" in card

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            pytest.param(["--model", "registry://small@champion"], "needs --dataset", id="nothing to label"),
            pytest.param(
                ["--model", "registry://small", "--dataset", "x", "--output", "y"], "no registry", id="no registry"
            ),
            pytest.param(["--model", "./nowhere", "--dataset", "x", "--output", "y"], "./nowhere", id="no model"),
        ],
    )
    def test_what_is_missing_is_told(
        self, options: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SORTASE_REGISTRY", raising=False)
        assert main(["predict", *options]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_two_generations_of_real_cells(tmp_path: Path) -> None:
    """Blood cells of two wells, then of six; then of six with shuffled labels. Tested on two wells that nobody saw."""
    pytest.importorskip("scanpy")
    config = write(tmp_path / "retrain.yaml", cell_settings(tmp_path))
    out = tmp_path / "out.json"

    def retrain() -> tuple[int, dict[str, Any]]:
        code = main(["retrain", "-c", config, "--output-json", str(out)])
        return code, json.loads(out.read_text())

    cells(tmp_path / "cells.h5ad", "12")
    code, first = retrain()
    assert (code, first["state"]) == (0, "promoted")
    cells(tmp_path / "cells.h5ad", "123456")
    code, second = retrain()
    assert (code, second["state"], second["champion"]) == (0, "promoted", first["version"])
    assert second["drift"] is not None
    cells(tmp_path / "cells.h5ad", "123456", shuffled=True)
    code, bad = retrain()
    assert (code, bad["state"]) == (6, "refused")
    model = Model(str(tmp_path / "registry" / "blood"), "blood")
    assert main(["rollback", "blood", "--registry", str(tmp_path / "registry")]) == 0
    assert model.champion is not None
    assert model.champion.name == first["version"]
    tokens = {
        model.version(name).record["vocabulary"] for name in (first["version"], second["version"], bad["version"])
    }
    assert len(tokens) == 1, "all generations have the first one's vocabulary"
    assert None not in tokens


def terminating(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """This process gets SIGTERM when it calls the function."""
    module, _, called = name.rpartition(".")
    function = getattr(importlib.import_module(module), called)

    def then(*given: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return function(*given, **named)

    monkeypatch.setattr(name, then)


@pytest.mark.parametrize(
    "within",
    [
        pytest.param("sortase.retrain.steps.profile", id="drift"),
        pytest.param("sortase.retrain.judging.contest", id="gate"),
    ],
)
def test_a_retraining_that_is_stopped_continues(within: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.data(n=60)
    first = place.retrain()[1]
    place.data(n=240, seed=1)
    with monkeypatch.context() as patch:
        terminating(patch, within)
        code, stopped = place.retrain()
    assert (code, stopped["state"]) == (5, "cancelled")
    assert "stopped in generation " in stopped["words"]
    assert place.aliases["champion"] == first["version"]
    code, again = place.retrain()
    assert (code, again["state"], again["champion"]) == (0, "promoted", first["version"])


def test_a_gate_that_is_stopped_judges_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.data(n=60)
    assert main(["run", "-c", place.config]) == 0
    with monkeypatch.context() as patch:
        terminating(patch, "sortase.retrain.judging.contest")
        assert main(["gate", "-c", place.config]) == 5
    assert "sortase gate: stopped; the same command does it again" in capsys.readouterr().err
    assert main(["gate", "-c", place.config]) == 0


def test_a_death_between_any_two_steps_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL before and after each step of the second generation, one call after another; then one that ends."""
    place = Place(str(tmp_path), tmp_path)
    place.data(n=60)
    first = place.retrain()[1]["version"]
    place.data(n=240, seed=1)
    killer = Path(__file__).with_name("killer.py")
    done = subprocess.run([sys.executable, str(killer), place.config], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    *deaths, (_, code, aliases) = map(json.loads, done.stdout.splitlines())
    assert code == 0, done.stderr
    assert {end for _, end, _ in deaths} == {-signal.SIGKILL}, deaths
    promoted = [step for step, _, seen in deaths if seen["champion"] != first]
    assert promoted[0] == "after promotion.move", "the champion moves in one step, and only there"
    assert aliases["champion"] != first
    model = place.model
    model.version("champion").verify()
    assert [each["kind"] for each in history(model.url, "champion")] == ["promote", "promote"]
    assert len(list(versions(model.url))) == 2, "called so often, registered once"
