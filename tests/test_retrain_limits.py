"""Retrainings that are stopped, or must not change anything: found before training where that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset

from retrain_data import cell_settings, cells, sequence_settings, sequences, write
from retrain_place import Place
from sortase import storage
from sortase.cli import main
from sortase.config.load import check
from sortase.errors import CancelledError, FencedError, GateError
from sortase.registry.models import Model
from sortase.registry.moves import history, table
from sortase.retrain import summary
from sortase.retrain.outcome import Outcome
from sortase.retrain.plan import new_labels
from sortase.retrain.register import training_hashes
from sortase.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def log(words: str) -> None: ...


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path), tmp_path)


def put(place: Place, data: Dataset, name: str = "data") -> str:
    """Saved beside the data, or in their place."""
    url = storage.join(place.root, name)
    shutil.rmtree(url, ignore_errors=True)
    data.save_to_disk(url)
    return url


def relabelled(data: Dataset, names: dict[int, str]) -> Dataset:
    labels = list(data["cell_type"])
    for row, name in names.items():
        labels[row] = name
    return data.remove_columns("cell_type").add_column("cell_type", labels)


def not_trained(outcome: dict[str, Any]) -> bool:
    return outcome["run"] is None or not storage.exists(storage.join(outcome["run"], "model"))


class TestForesight:
    def test_a_registry_that_cannot_be_written(self, place: Place) -> None:
        place.data(n=60)
        (place.folder / "file").touch()
        code, out = place.retrain("--registry", f"{place.folder}/file/registry")
        assert (code, not_trained(out)) == (3, True)
        assert "file/registry" in out["words"]

    @pytest.mark.parametrize(
        "spoil", [lambda data: data[:-1], lambda data: data[:-99] + bytes(99)], ids=["cut", "bits"]
    )
    def test_a_champion_whose_files_are_damaged(
        self, place: Place, spoil: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.data(n=60)
        place.retrain()
        champion = place.model.champion
        assert champion is not None
        weights = champion.path("model", "model.safetensors")
        storage.write_bytes(weights, spoil(storage.read_bytes(weights)))
        assert main(["gate", "-c", place.config, "--version", "champion"]) == 2
        assert "is damaged" in capsys.readouterr().err
        place.data(n=80)
        code, out = place.retrain()
        assert (code, not_trained(out)) == (2, True)
        assert f"version {champion.name} is damaged" in out["words"]

    def test_without_a_test_side(self, place: Place) -> None:
        place.data(n=60)
        code, out = place.retrain("--set", "split={strategy: random, test_size: 0}")
        assert (code, not_trained(out)) == (2, True)
        assert "split.test_size is 0" in out["words"]

    def test_a_frozen_set_that_is_not_there(self, place: Place) -> None:
        place.data(n=60)
        code, out = place.retrain("--set", f"gate.dataset={place.root}/nowhere")
        assert (code, not_trained(out)) == (2, True)
        assert f"there is no dataset at {place.root}/nowhere" in out["words"]

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            pytest.param(
                ["split={strategy: random, test_size: 0.5}"], "trained on", id="a test side it was trained on"
            ),
            pytest.param(
                ["split={strategy: random, test_size: 0.3}", "gate.overlap=drop", "gate.min_units=40"],
                "gate.min_units asks for 40",
                id="too few rows that it has not seen",
            ),
            pytest.param(["labels.mapping={a: 0, b: 1, c: 2, d: 3}"], "'d'", id="classes that it does not have"),
            pytest.param(
                ["model={checkpoint: registry://small@champion}"],
                "retrain.from_champion: true",
                id="a model that would go on from its own alias",
            ),
        ],
    )
    def test_what_does_not_suit_the_champion(self, place: Place, settings: list[str], words: str) -> None:
        place.data(n=60)
        assert place.retrain()[0] == 0
        code, out = place.retrain(*(part for setting in settings for part in ("--set", setting)))
        assert (code, not_trained(out)) == (2, True)
        assert words in out["words"]

    def test_a_frozen_set_of_other_classes(self, place: Place) -> None:
        place.data(n=60)
        assert place.retrain()[0] == 0
        other = put(place, relabelled(sequences(n=60, seed=8), {0: "z"}), "frozen")
        place.data(n=80)
        code, out = place.retrain("--set", f"gate.dataset={other}")
        assert (code, not_trained(out)) == (2, True)
        assert "'z'" in out["words"]

    def test_a_first_model_too(self, place: Place) -> None:
        place.data(n=60)
        code, out = place.retrain("--set", "gate.min_units=61")
        assert (code, not_trained(out)) == (2, True)
        assert "gate.min_units asks for 61" in out["words"]

    def test_a_configuration_that_is_wrong_is_told_in_the_summary(self, place: Place) -> None:
        code, out = place.retrain("--set", "gate.acuracy=0.5")
        assert code == 2
        assert "did you mean 'accuracy'" in out["words"]

    def test_a_mirror_whose_library_is_not_there(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.data(n=60)
        first = place.retrain()[1]["version"]
        monkeypatch.setattr("sortase.registry.mirror.find_spec", lambda name: None)
        mirrored = ["--set", "registry.mlflow=sqlite:///x.db"]
        assert main(["rollback", "small", "-c", place.config, *mirrored, "--to", first]) == 2
        assert len(history(place.model.url)) == 2, "a challenger and a champion, and nothing since"
        place.data(n=80)
        code, out = place.retrain(*mirrored)
        assert (code, not_trained(out)) == (2, True)


class TestNewLabels:
    def test_those_that_are_left_out_are_told(self, place: Place) -> None:
        place.data(n=60)
        place.retrain()
        put(place, relabelled(sequences(n=60, seed=4), {70: "z", 71: "z"}))
        code, out = place.retrain("--set", "retrain.new_labels=drop")
        assert code in (0, 6), out["words"]
        assert out["drift"]["left_out"] == {"z": 2}
        told = storage.read_bytes(storage.join(out["run"], "retrain.md")).decode()
        assert "left out" in told and "z" in told

    def test_rows_that_a_filter_removes_are_not_counted(self, tmp_path: Path) -> None:
        relabelled(sequences(n=60, seed=4), {3: "z", 70: "z", 71: "y"}).save_to_disk(str(tmp_path / "data"))
        settings = sequence_settings(tmp_path, data={"dataset": str(tmp_path / "data"), "filter": {"side": "test"}})
        labels = {"column": "cell_type", "mapping": {"a": 0, "b": 1, "c": 2}}
        config = check({**settings, "labels": labels, "retrain": {"new_labels": "drop"}}, "retrain.yaml")
        assert new_labels(config, str(tmp_path / "data")) == {"z": 1}

    def test_drift_that_is_refused_is_shown(self, place: Place) -> None:
        place.data(n=60)
        place.retrain()
        put(place, relabelled(sequences(n=60, seed=4), dict.fromkeys(range(70, 90), "z")))
        code, out = place.retrain("--set", "retrain.new_labels=drop", "--set", "retrain.drift.action=refuse")
        assert (code, not_trained(out)) == (2, True)
        assert out["drift"]["left_out"] == {"z": 20}

    def test_in_a_frozen_set_they_are_left_out_as_well(self, place: Place) -> None:
        place.data(n=60)
        frozen = put(place, relabelled(sequences(n=60, seed=8).select(range(60, 120)), {0: "z"}), "frozen")
        code, out = place.retrain()
        assert code == 0
        place.data(n=80)
        code, out = place.retrain("--set", "retrain.new_labels=drop", "--set", f"gate.dataset={frozen}")
        assert code in (0, 6), out["words"]
        assert "1 rows with the unknown label 'z' were left out" in out["verdict"]["remarks"]


class TestFrozenSets:
    def test_one_without_the_column_of_groups(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        place.data(n=60)
        assert place.retrain()[0] == 0
        frozen = put(place, sequences(n=60, seed=8).select(range(60, 120)), "plain")
        groups = ["--version", "champion", "--set", f"gate.dataset={frozen}", "--set", "split.strategy=group"]
        out = place.folder / "verdict.json"
        code = main(["gate", "-c", place.config, *groups, "--set", "split.column=donor", "--output-json", str(out)])
        assert code == 0
        words = "plain has no column 'donor', by whose groups the data are split"
        assert any(words in remark for remark in storage.read_json(str(out))["remarks"])
        by = ["--set", "split.column=donor", "--set", "gate.by=interval", "--set", "gate.bootstrap=200"]
        capsys.readouterr()
        assert main(["gate", "-c", place.config, *groups, *by]) == 2
        assert words in capsys.readouterr().err

    def test_classes_in_another_order_are_read_by_name(self, place: Place) -> None:
        place.data(n=120)
        test = sequences(n=60, seed=8).select(range(60, 120)).rename_column("cell_type", "label")
        plain = put(place, test.rename_column("label", "cell_type"), "plain")
        turned = put(place, test.cast_column("label", ClassLabel(names=["c", "a", "b"])), "turned")
        accuracies = []
        assert place.retrain()[0] == 0
        for url in (plain, turned):
            out = place.folder / "verdict.json"
            options = ["--version", "champion", "--set", f"gate.dataset={url}", "--output-json", str(out)]
            assert main(["gate", "-c", place.config, *options]) == 0
            accuracies.append(storage.read_json(str(out))["models"]["challenger"]["metrics"]["accuracy"])
        assert accuracies[0] == accuracies[1] > 0.6


class TestVocabularies:
    """Of sets that were tokenised on their own, from fewer genes: every id means another gene."""

    @pytest.fixture
    def cells_place(self, tmp_path: Path) -> tuple[str, dict[str, str]]:
        import anndata

        pytest.importorskip("scanpy")
        cells(tmp_path / "cells.h5ad", "12")
        few = {"num_train_epochs": 1, "global_batch_size": 16, "per_device_train_batch_size": 16}
        rules = {"accuracy": 0.001, "bootstrap": 20}
        config = write(tmp_path / "retrain.yaml", cell_settings(tmp_path, train=few, gate=rules))
        assert main(["retrain", "-c", config]) == 0
        folder = Model(f"{tmp_path}/registry/blood", "blood").version("champion").url
        data = anndata.read_h5ad(tmp_path / "cells.h5ad")
        whole = data.raw.to_adata()
        part = data.copy()
        part.raw = whole[:, 100:]
        part.write_h5ad(tmp_path / "part.h5ad")
        sets = {}
        for name, changes in (
            ("own", {"input": f"{tmp_path}/part.h5ad"}),
            ("pinned", {"vocabulary": f"{folder}/vocabulary.pkl", "medians": f"{folder}/medians.json"}),
        ):
            settings = cell_settings(tmp_path, run={"name": name, "output": f"{tmp_path}/runs"})
            settings["tokenize"] |= changes
            assert main(["tokenize", "-c", write(tmp_path / f"{name}.yaml", settings)]) == 0
            made = Dataset.load_from_disk(f"{tmp_path}/runs/{name}/data/tokenized.dataset")
            rows = [row for row, side in enumerate(made["side"]) if side == "test"]
            made.select(rows).save_to_disk(f"{tmp_path}/{name}.dataset")
            sets[name] = f"{tmp_path}/{name}.dataset"
        return config, sets

    def test_the_gate_and_predictions_refuse_them(
        self, cells_place: tuple[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config, sets = cells_place
        codes = {}
        for name, url in sets.items():
            judged = ["gate", "-c", config, "--version", "champion", "--set", f"gate.dataset={url}"]
            model = ["--model", "registry://blood@champion", "--registry", f"{tmp_path}/registry"]
            labels = ["predict", *model, "--dataset", url, "--output", f"{tmp_path}/{name}.parquet"]
            capsys.readouterr()
            codes[name] = main(judged), main(labels)
            assert capsys.readouterr().err.count("was tokenised with another vocabulary") == (2 if name == "own" else 0)
        assert codes == {"own": (2, 2), "pinned": (0, 0)}
        assert not (tmp_path / "own.parquet").exists()

    def test_where_nothing_tells_the_verdict_says_so(self, place: Place) -> None:
        place.data(n=60)
        frozen = put(place, sequences(n=60).select(range(60)), "frozen")
        code, out = place.retrain("--set", f"gate.dataset={frozen}")
        assert code == 0, out["words"]
        assert any("nothing tells whether the evaluation set" in each for each in out["verdict"]["remarks"])


class TestVersions:
    def test_a_model_remembers_what_those_before_it_were_trained_on(self, tmp_path: Path) -> None:
        """Their weights are in it."""
        place = Place(str(tmp_path), tmp_path, retrain={"from_champion": True})
        seen = set()
        for seed in (0, 1, 2):
            place.data(n=60, seed=seed)
            code, out = place.retrain("--set", "gate.accuracy=0.1", "--set", "gate.macro_f1=0.01")
            assert code == 0, out["words"]
            hashes = set(training_hashes(place.model.version(out["version"])).hashes.tolist())
            assert seen < hashes
            seen = hashes

    def test_a_run_that_was_made_again_is_no_longer_a_versions(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.data(n=60)
        assert main(["run", "-c", place.config]) == 0
        assert main(["gate", "-c", place.config]) == 0
        version = place.aliases["challenger"]
        put(
            place, relabelled(sequences(n=60), {i: "0" for i, n in enumerate(sequences(n=60)["cell_type"]) if n == "c"})
        )
        assert main(["run", "-c", place.config, "--replace"]) == 0
        capsys.readouterr()
        assert main(["gate", "-c", place.config, "--version", version, "--set", "gate.accuracy=0.5"]) == 2
        assert "were made again since" in capsys.readouterr().err

    def test_what_a_killed_writer_left_is_no_part_of_it(self, place: Place) -> None:
        place.data(n=60)
        assert main(["run", "-c", place.config]) == 0
        left = Path(place.root) / "runs" / "small" / "model" / ".0123456789ab.partial"
        left.write_bytes(b"half")
        assert main(["gate", "-c", place.config]) == 0
        version = place.model.version("challenger")
        version.verify()
        assert not [name for name in version.record["files"] if "partial" in name]

    def test_the_commit_is_that_of_the_training(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.data(n=60)
        monkeypatch.setenv("CI_COMMIT_SHA", "aaa")
        assert main(["run", "-c", place.config]) == 0
        monkeypatch.setenv("CI_COMMIT_SHA", "bbb")
        assert main(["run", "-c", place.config]) == 0
        assert main(["gate", "-c", place.config]) == 0
        assert place.model.version("challenger").record["lineage"]["code"]["commit"] == "aaa"


class TestPromotion:
    def test_the_rules_in_force_decide(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        """Not lax ones that were passed before."""
        place.data(n=60)
        assert main(["run", "-c", place.config]) == 0
        assert main(["gate", "-c", place.config, "--set", "gate.accuracy=0.01", "--set", "gate.macro_f1=0.01"]) == 0
        assert main(["promote", "small", "-c", place.config]) == 6
        assert "by the rules of the configuration" in capsys.readouterr().err
        assert main(["gate", "-c", place.config, "--set", "gate.accuracy=0.999", "--version", "challenger"]) in (0, 6)
        assert place.model.champion is None

    def test_what_was_rolled_back_is_not_made_again(self, place: Place) -> None:
        """Also where the version came from a run by hand, which lies in another folder than a generation's."""
        place.data(n=60)
        first = place.retrain()[1]["version"]
        place.data(n=120, seed=1)
        assert main(["run", "-c", place.config]) == 0
        assert main(["gate", "-c", place.config]) == 0
        assert main(["promote", "small", "-c", place.config]) == 0
        assert main(["rollback", "small", "-c", place.config, "--why", "complaints"]) == 0
        code, out = place.retrain()
        assert (code, out["state"]) == (0, "waiting"), out["words"]
        assert "rolled back" in out["words"]
        assert place.aliases["champion"] == first

    def test_a_person_who_goes_back_by_override_is_not_overruled(self, place: Place) -> None:
        place.data(n=60)
        first = place.retrain()[1]["version"]
        place.data(n=240, seed=1)
        second = place.retrain()[1]
        assert second["state"] == "promoted", second["words"]
        assert main(["promote", f"small@{first}", "-c", place.config, "--override", "complaints"]) == 0
        code, out = place.retrain()
        assert (code, out["state"]) == (0, "waiting"), out["words"]
        assert "replaced by the older" in out["words"] and "complaints" in out["words"]
        assert place.aliases["champion"] == first


class TestListing:
    def test_a_model_that_is_not_there(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        place.data(n=60)
        place.retrain()
        assert main(["models", "smal", "-c", place.config]) == 2
        assert "models of this registry: small" in capsys.readouterr().err


class TestSummary:
    def test_what_is_not_known_yet_is_not_told(self) -> None:
        outcome = Outcome(model="m")
        outcome.fail(CancelledError("stopped"))
        text = summary.markdown(outcome)
        assert text.startswith("## Retraining of m: cancelled")
        assert "Champion before" not in text
        outcome.fail(GateError("no"))
        assert outcome.state == "cancelled", "what came first"
        refused = Outcome(model="m")
        refused.fail(GateError("no"))
        assert refused.state == "refused"
        outcome.news = "there is no champion yet"
        assert "| Champion before | none |" in summary.markdown(outcome)

    def test_one_that_cannot_be_written_hides_no_verdict(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.data(n=60, shuffled=True)
        (place.folder / "file").touch()
        words = ["retrain", "-c", place.config, "--summary", f"{place.folder}/file/summary.md"]
        assert main([*words, "--set", "gate.accuracy=0.99"]) == 6
        assert "what happened is not written down" in capsys.readouterr().err

    def test_names_of_classes_stay_text(self) -> None:
        words = "class 'a|![x](http://evil/p.png)' is new\n\n# Heading\n\n@org/team fixes #1"
        text = summary.markdown(Outcome(model="m", words=words, run="s3://b/`x`|y"))
        assert "![x]" not in text.replace("\\", "\\ ")
        assert "\n# Heading" not in text
        assert "@org" not in text
        assert "#1" not in text
        assert text.count("\n| Run |") == 1

    def test_signs_of_rules_are_read_as_such(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(summary, "verdict_markdown", lambda found: "| &#62;= 1 | a@b | #3 |")
        text = summary.markdown(Outcome(model="m", words="x", verdict={}))
        assert "&#62;= 1" in text
        assert "a@b" not in text
        words = "`sortase promote m@20261125T042208-c5bd29e7`"
        assert "m@20261125T042208-c5bd29e7" in summary.markdown(Outcome(model="m", words=words)), "it is copied"
        assert "#3" not in text

    def test_a_gap_to_what_is_there(self, tmp_path: Path) -> None:
        for before in ("", "end", "end\n", "end\n\n"):
            (tmp_path / "summary").write_text(before)
            summary.append(str(tmp_path / "summary"), "## x\n")
            assert (tmp_path / "summary").read_text() == ("end\n\n" if before else "") + "## x\n"

    def test_it_is_the_word_of_the_attempt_that_has_the_run(self, tmp_path: Path) -> None:
        folder = RunFolder(str(tmp_path))
        folder.begin()
        with summary.kept(Outcome(model="m", state="promoted", words="done"), folder, log):
            pass
        RunFolder(str(tmp_path)).begin()
        with pytest.raises(RuntimeError), summary.kept(Outcome(model="m", state="nothing"), folder, log):
            raise RuntimeError("broken")
        with pytest.raises(FencedError), summary.kept(Outcome(model="m", state="refused"), folder, log):
            pass
        assert folder.read("retrain.json")["state"] == "promoted"
        learnt = Outcome(model="m")
        summary.learn(learnt, folder, "another", log)
        assert learnt.state == "failed"

    def test_an_error_of_any_kind_is_told(self, tmp_path: Path) -> None:
        outcome = Outcome(model="m")
        with pytest.raises(KeyError), summary.kept(outcome, RunFolder(str(tmp_path)), log):
            raise KeyError("what")
        assert storage.read_json(str(tmp_path / "retrain.json"))["words"] == "KeyError: 'what'"

    def test_a_later_sortase_may_tell_more(self) -> None:
        assert Outcome.of({"model": "m", "state": "promoted", "moon": "full"}).state == "promoted"


def test_a_configuration_may_name_no_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = sequence_settings(tmp_path, registry={})
    config = write(tmp_path / "retrain.yaml", settings)
    assert check(settings).registry.url is None
    assert main(["retrain", "-c", config]) == 2
    assert "--registry" in capsys.readouterr().err
    sequences(n=60).save_to_disk(str(tmp_path / "data"))
    assert main(["retrain", "-c", config, "--registry", f"{tmp_path}/registry"]) == 0
    assert table(Model(f"{tmp_path}/registry/small", "small").url).aliases["champion"]
