"""Two models on the same rows: paired figures, and everything that would make the comparison unfair."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset

from makers import CLASSES, VOCABULARY, architecture, dataset
from sortase.config.compute import ComputeSpec
from sortase.config.evaluate import EvaluateSpec
from sortase.config.gate import GateSpec
from sortase.data import classmap
from sortase.data.fingerprints import Training, fingerprints
from sortase.data.sequences import IGNORED, Sequences
from sortase.errors import InputError
from sortase.gate.compare import Contender, contest, vocabulary_digest
from sortase.gate.fairness import frozen, labelled_rows
from sortase.gate.judge import judge
from sortase.gate.paired import TURNS, WARMING, Local
from sortase.gate.verdict import text, verdict
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config, load_trained
from sortase.model.metrics import bootstrap
from sortase.model.task import TASKS
from sortase.model.tokenizer import build_custom_tokenizer
from sortase.score.evaluate import EvaluateJob, evaluate
from sortase.score.parts import Part, RemoteScorer
from sortase.train.job import save

HELD_OUT = np.arange(VOCABULARY) % 4 == 1
TOKEN_TEST = {token for token in range(VOCABULARY) if HELD_OUT[token] and token % 2 and token >= 5}
UNTOLD = "the evaluation set does not tell its classes: its class ids were taken as the challenger's"
NOTHING = Training("row", np.empty(0, dtype=np.uint64))
NO_TOKEN = Training("token", np.empty(0, dtype=np.uint64))
Make = Callable[..., str]


def learnt(kind: str, steps: int) -> Trained:
    """A tiny model that has learnt the labels of ``makers.dataset`` more or less."""
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, architecture()), 1)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    data = Sequences.open(dataset(kind, 200, seed=9), TASKS[kind].label_column)
    every = np.arange(len(data))
    arrays = data.model_inputs(every, 64, 0)
    ids, mask = arrays["input_ids"], arrays["attention_mask"]
    labels = TASKS[kind].pad_labels([data.labels_of(i) for i in every], data.shown(every, 64))
    for _ in range(steps):
        model(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels)
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return Trained(model.eval(), None, TASKS[kind], CLASSES, 64, 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``models(kind, change)``: the folder of a good model, in which ``change`` may spoil the classifier."""
    good = {kind: learnt(kind, 40) for kind in TASKS}

    def make(kind: str = "sequence", change: Any = None, **others: Any) -> str:
        folder = tmp_path_factory.mktemp("model")
        classifier: Any = good[kind].model.classifier
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        with torch.no_grad():
            if change is not None:
                change(classifier)
        save(replace(good[kind], **others), str(folder))
        classifier.load_state_dict(before)
        return str(folder)

    return make


def shuffled(classifier: Any) -> None:
    classifier.weight.copy_(classifier.weight[[1, 2, 0]])
    classifier.bias.copy_(classifier.bias[[1, 2, 0]])


def swapped(classifier: Any) -> None:
    classifier.weight.copy_(classifier.weight[[1, 0, 2]])
    classifier.bias.copy_(classifier.bias[[1, 0, 2]])


def without_c(classifier: Any) -> None:
    classifier.bias[2] -= 1000


def test_set(kind: str = "sequence", n: int = 90) -> Sequences:
    return Sequences.open(dataset(kind, n, seed=3), TASKS[kind].label_column)


test_set.__test__ = False  # type: ignore[attr-defined]


def contender(model: str, name: str = "new", training: Training | None = NOTHING, **more: Any) -> Contender:
    return Contender(name=name, model=model, training=training, **more)


def rules(**settings: Any) -> GateSpec:
    defaults = {"macro_f1": ">= champion", "bootstrap": 50, "batch_size": 8, "min_units": 10}
    return GateSpec(**(defaults | settings))


def compete(ours: str, theirs: str | None, test: Sequences, spec: GateSpec | None = None, **options: Any) -> Any:
    champion = None if theirs is None else contender(theirs, "old")
    defaults: dict[str, Any] = {"unit": "row", "spec": spec or rules(), "compute": ComputeSpec(device="cpu")}
    options = defaults | options
    return contest(contender(ours), champion, test, **options)


@pytest.mark.parametrize("kind", list(TASKS))
def test_a_better_and_a_worse_challenger(kind: str, models: Make) -> None:
    good, bad = models(kind), models(kind, shuffled)
    for ours, theirs, passed in ((good, bad, True), (bad, good, False)):
        found = compete(ours, theirs, test_set(kind))
        (row,) = judge(found, rules())
        assert row.passed is passed
        assert ("better" if passed else "worse") + " beyond noise" in row.words
        assert row.interval is not None
        assert row.interval[0] <= row.difference <= row.interval[1]  # type: ignore[operator]
        assert found.challenger.value("loss") > 0
        assert found.champion.value("ece") >= 0


@pytest.mark.parametrize("kind", list(TASKS))
def test_identical_models_differ_by_exactly_nothing(kind: str, models: Make) -> None:
    found = compete(models(kind), models(kind), test_set(kind))
    for name in found.challenger.figures["metrics"]:
        assert found.difference(name)[0] == 0
    for name in found.challenger.figures["intervals"]:
        assert found.difference(name)[1] == [0, 0]
    assert [each.difference_interval for each in found.classes] == [[0, 0]] * 3
    assert not any(each.worse for each in found.classes)


@pytest.mark.parametrize(("kind", "unit"), [("sequence", "row"), ("token", "row"), ("token", "token")])
def test_figures_are_those_of_the_evaluation(kind: str, unit: Any, models: Make, tmp_path: Path) -> None:
    test = test_set(kind)
    training = NOTHING
    if unit == "token":
        test, training = test.view(hidden_tokens=~HELD_OUT), NO_TOKEN
    model = models(kind)
    found = contest(contender(model, training=training), None, test, unit=unit, spec=rules(), seed=5)
    settings = EvaluateSpec(batch_size=8, bootstrap=50)
    job = EvaluateJob(
        trained=load_trained(model), test=test, train=None, split_unit=unit, settings=settings, precision="fp32", seed=5
    )
    expected = evaluate(job, str(tmp_path), lambda words: None)
    for name, value in expected["metrics"].items():
        assert found.challenger.value(name) == pytest.approx(value, abs=1e-5)
    assert found.challenger.figures["intervals"] == expected["intervals"]
    assert found.challenger.figures["bootstrap"]["unit"] == unit
    if unit == "token":
        assert sum(each.units for each in found.classes) == expected["per_token_type"]["tokens"] == len(TOKEN_TEST)
    else:
        assert sum(each.units for each in found.classes) == expected["units"]


@pytest.mark.parametrize(("kind", "unit"), [("sequence", "row"), ("token", "token")])
def test_other_processes_find_the_same(kind: str, unit: Any, models: Make, tmp_path: Path) -> None:
    dataset(kind, 90, seed=3).save_to_disk(str(tmp_path / "data"))
    test, seen = test_set(kind).view(np.arange(7, 90)), NOTHING
    if unit == "token":
        test, seen = test.view(hidden_tokens=~HELD_OUT), NO_TOKEN

    def remote(model: str) -> RemoteScorer:
        return RemoteScorer(
            map=pickling, model=model, dataset=str(tmp_path / "data"), compute=ComputeSpec(device="cpu")
        )

    challenger, champion = contender(models(kind), training=seen), contender(models(kind, swapped), "old", seen)
    here = contest(challenger, champion, test, unit=unit, spec=rules(max_slowdown=100))
    there = contest(challenger, champion, test, unit=unit, spec=rules(max_slowdown=100), remote=remote)
    for name in ("macro_f1", "loss", "auroc"):
        assert there.difference(name)[0] == pytest.approx(here.difference(name)[0], abs=1e-6)
    assert there.difference("macro_f1")[1] == here.difference("macro_f1")[1]
    assert there.classes == here.classes


def pickling(function: Any, items: Any) -> Any:
    function = pickle.loads(pickle.dumps(function))
    for item in items:
        yield pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(item)))))


def test_a_class_regression_is_caught_although_macro_f1_rises(models: Make) -> None:
    spec = rules(macro_f1="> champion", max_class_recall_drop=0.1)
    found = compete(models(change=without_c), models(change=swapped), test_set(), spec)
    rows = {row.rule: row for row in judge(found, spec)}
    assert rows["macro_f1"].passed is True
    assert rows["max_class_recall_drop"].passed is False
    assert "c -1.000" in rows["max_class_recall_drop"].words
    assert verdict(found, list(rows.values()), spec)["passed"] is False


def test_a_class_without_a_row_is_named_and_decides_nothing(models: Make) -> None:
    test = test_set()
    labels = np.array([test.labels_of(i)[0] for i in range(len(test))])
    spec = rules(min_class_recall=0.1, class_min_units=1)
    found = compete(models(change=without_c), models(), test.view(np.flatnonzero(labels != 2)), spec)
    row = judge(found, spec)[1]
    assert row.passed is True
    assert "c (0)" in row.words
    whole = compete(models(change=without_c), models(), test, spec)
    assert judge(whole, spec)[1].passed is False


def test_other_tasks_are_refused(models: Make) -> None:
    with pytest.raises(InputError, match="the challenger new is a sequence classifier and the champion old a token"):
        compete(models(), models("token"), test_set())


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"a": 0, "b": 1, "d": 2}, ["only the challenger new has 'c'", "only the champion old has 'd'"]),
        ({"a": 0, "c": 1, "b": 2}, ["ids differ: 'b' is 1 and 2, 'c' is 2 and 1"]),
    ],
)
def test_other_class_maps_are_refused(theirs: dict[str, int], words: list[str], models: Make) -> None:
    other = build_model(TASKS["sequence"], theirs, None, load_config(None, architecture()), 1)
    model = models(model=other, class_map=theirs)
    with pytest.raises(InputError) as caught:
        compete(models(), model, test_set())
    assert all(each in str(caught.value) for each in words)


def test_a_set_with_other_classes_is_refused(models: Make) -> None:
    with pytest.raises(InputError, match="the challenger new and the evaluation set differ") as caught:
        compete(models(), None, test_set(), classes={"b": 0, "a": 1, "c": 2})
    assert "in labels.mapping, or name another one in gate.dataset" in str(caught.value)
    assert "Train on" not in str(caught.value)


def test_a_set_that_does_not_tell_its_classes_is_remarked(models: Make) -> None:
    assert compete(models(), None, test_set()).remarks == [UNTOLD]
    assert compete(models(), None, test_set(), classes=CLASSES).remarks == []


def test_other_vocabularies_are_refused(models: Make, tmp_path: Path) -> None:
    words = {f"w{i}": i for i in range(50)}
    urls = []
    for name, vocab in (("one", words), ("two", words | {"w3": 4, "w4": 3})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(vocab))
        urls.append(models(tokenizer=build_custom_tokenizer(str(path))))
    assert vocabulary_digest(urls[0]) != vocabulary_digest(urls[1])
    assert vocabulary_digest(models()) is None
    with pytest.raises(InputError, match="the vocabularies of the challenger new and the champion old differ"):
        compete(urls[0], urls[1], test_set())
    told = contest(contender(urls[0]), contender(urls[1], vocabulary=vocabulary_digest(urls[0])), test_set(), **ROW)
    assert told.remarks == [UNTOLD]
    unknown = compete(urls[0], models(), test_set())
    assert unknown.remarks[1:] == [
        "vocabularies were compared by their size alone: there is no tokenizer with the champion old"
    ]
    larger = load_config(None, architecture(vocab_size=61))
    other = build_model(TASKS["sequence"], CLASSES, None, larger, 1)
    with pytest.raises(InputError, match="60 and 61 entries"):
        compete(models(), models(model=other), test_set())


ROW: dict[str, Any] = {"unit": "row", "spec": rules()}


def test_tokens_that_only_one_model_reads_are_refused(models: Make) -> None:
    shorter = models("token", max_length=20)
    words = (
        r"reads 64 tokens and the champion old 20, and \d+ of the 90.*Leave these rows out, or tokenise the set anew"
    )
    with pytest.raises(InputError, match=words):
        compete(models("token"), shorter, test_set("token"))
    test = test_set("token")
    short = test.view(np.flatnonzero(test.lengths <= 20))
    assert compete(models("token"), shorter, short).difference("macro_f1")[0] == 0
    found = compete(models(), models(max_length=20), test_set())
    assert found.rows == 90
    cut = int((test_set().lengths > 20).sum())
    assert found.remarks[2:] == [f"{cut} of 90 sequences are cut to 20 tokens for the champion old"]


def test_rows_that_a_model_was_trained_on(models: Make) -> None:
    test = test_set()
    seen = Training.of([test.view(np.array([4, 11, 30]))], "row")
    other = Training.of([test.view(np.array([11, 12]))], "row")
    one, two = contender(models(), training=seen), contender(models(change=swapped), "old", other)
    with pytest.raises(InputError) as caught:
        contest(one, two, test, **ROW)
    assert "3 of 90 evaluated rows (3.3%) are in the training data of the challenger new (first: row 4, 11, 30)" in str(
        caught.value
    )
    assert "2 of 90 evaluated rows (2.2%) are in the training data of the champion old (first: row 11, 12)" in str(
        caught.value
    )
    found = contest(one, two, test, unit="row", spec=rules(overlap="drop"))
    assert found.rows == 86
    assert found.seen == {"the challenger new": 3, "the champion old": 2}
    clean = compete(models(), models(change=swapped), test.view(np.setdiff1d(np.arange(90), [4, 11, 12, 30])))
    assert found.difference("macro_f1") == clean.difference("macro_f1")
    assert found.content == clean.content
    spec = rules(overlap="drop")
    assert "2 rows that the champion old was trained on were left out for all" in text(
        verdict(found, judge(found, spec), spec)
    )
    with pytest.raises(InputError, match="trained on all 90 evaluated rows; nothing is left"):
        contest(contender(models(), training=Training.of([test], "row")), None, test, unit="row", spec=spec)


def test_tokens_that_a_model_was_trained_on(models: Make) -> None:
    whole = test_set("token")
    test = whole.view(hidden_tokens=~HELD_OUT)
    seen = Training("token", np.array([9, 13, 14], dtype=np.uint64))
    one, two = contender(models("token"), training=seen), contender(models("token"), "old", NO_TOKEN)
    with pytest.raises(InputError, match=rf"2 of {len(TOKEN_TEST)} evaluated tokens .* \(first: token 9, 13\)"):
        contest(one, two, test, unit="token", spec=rules())
    found = contest(one, two, test, unit="token", spec=rules(overlap="drop"))
    assert sum(each.units for each in found.classes) == len(TOKEN_TEST) - 2
    assert found.seen["the challenger new"] == 2
    assert found.challenger.figures["units"] == sum(
        int((test.labels_of(i) != IGNORED).sum() - np.isin(test.tokens_of(i), [9, 13]).sum()) for i in range(len(test))
    )


def test_rows_that_were_trained_on_at_another_length(models: Make) -> None:
    """The model reads 64 tokens of either."""
    ids = np.random.default_rng(0).integers(8, VOCABULARY, (60, 100)).tolist()

    def cut(length: int, chosen: slice) -> Sequences:
        rows = [row[:length] for row in ids[chosen]]
        return Sequences.open(Dataset.from_dict({"input_ids": rows, "label": [row[0] % 3 for row in rows]}), "label")

    for trained, evaluated in ((100, 70), (70, 100)):
        seen = Training.of([cut(trained, slice(20))], "row")
        with pytest.raises(InputError, match=r"20 of 60 evaluated rows .* \(first: row 0, 1"):
            contest(contender(models(), training=seen), None, cut(evaluated, slice(60)), **ROW)
        dropping = rules(overlap="drop")
        found = contest(contender(models(), training=seen), None, cut(evaluated, slice(60)), unit="row", spec=dropping)
        assert (found.rows, found.seen) == (40, {"the challenger new": 20})


def test_few_rows_or_tokens_decide_nothing(models: Make) -> None:
    test = test_set()
    seen = Training.of([test.view(np.arange(89))], "row")
    spec = GateSpec(macro_f1=">= champion - 0.005", overlap="drop")
    assert spec.min_units == 30
    with pytest.raises(InputError) as caught:
        contest(contender(models(), training=seen), contender(models(), "old"), test, unit="row", spec=spec)
    assert "1 evaluated row (89 of 90 were left out, a model was trained on them)" in str(caught.value)
    assert "gate.min_units asks for 30" in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="too few to judge on: 29 evaluated rows, and"):
        contest(contender(models()), None, test.view(np.arange(29)), unit="row", spec=spec)
    assert contest(contender(models()), None, test.view(np.arange(30)), unit="row", spec=spec).rows == 30
    tokens = test_set("token").view(hidden_tokens=~HELD_OUT)
    with pytest.raises(InputError, match=f"{len(TOKEN_TEST)} evaluated tokens, and gate.min_units asks for 30"):
        contest(contender(models("token"), training=NO_TOKEN), None, tokens, unit="token", spec=spec)


def test_intervals_of_very_many_classes_do_not_decide(models: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is scored."""
    monkeypatch.setattr(bootstrap, "CELLS", 9 * 100)
    monkeypatch.setattr(Local, "stream", lambda *given: pytest.fail("scored"))
    with pytest.raises(InputError, match="of 3 classes memory holds 100 resamples"):
        compete(models(), None, test_set(), rules(accuracy=0.5, by="interval", bootstrap=1000))


@pytest.mark.parametrize("apart", [False, True])
def test_groups_of_rows_are_resampled(apart: bool, models: Make, tmp_path: Path) -> None:
    """Rows of a group follow from its number alone, whatever was left out, and wherever they are scored."""
    dataset(n=90, seed=3).save_to_disk(str(tmp_path / "data"))

    def remote(model: str) -> RemoteScorer:
        return RemoteScorer(
            map=pickling, model=model, dataset=str(tmp_path / "data"), compute=ComputeSpec(device="cpu")
        )

    test = test_set()
    numbers = np.random.default_rng(0).integers(100, 107, 90)
    seen = Training.of([test.view(np.arange(0, 90, 9))], "row")
    spec = rules(overlap="drop", must_beat_baseline=True)
    one, two = contender(models(), training=seen), contender(models(change=swapped), "old")
    options: dict[str, Any] = {"unit": "row", "spec": spec, "remote": remote if apart else None}
    train = Sequences.open(dataset(n=6, seed=8), "label")
    found = contest(one, two, test.view(np.arange(90)[::-1]), groups=numbers[::-1], train=train, **options)
    left = np.setdiff1d(np.arange(90), np.arange(0, 90, 9))
    clean = contest(contender(models()), two, test.view(left), groups=numbers[left], train=train, **options)
    for name in ("macro_f1", "accuracy"):
        assert found.difference(name)[1] == pytest.approx(clean.difference(name)[1])
    rows = contest(contender(models()), two, test.view(left), train=train, **options)
    assert found.difference("accuracy")[1] != rows.difference("accuracy")[1]
    assert found.rival.interval == pytest.approx(clean.rival.interval)  # type: ignore[union-attr]
    assert found.rival.interval != rows.rival.interval  # type: ignore[union-attr]
    job = EvaluateJob(
        trained=load_trained(one.model),
        test=test.view(left),
        train=train,
        split_unit="row",
        settings=EvaluateSpec(batch_size=8, bootstrap=50),
        precision="fp32",
        seed=0,
        groups=bootstrap.Groups.by_row(left, numbers[left]),
    )
    expected = evaluate(job, str(tmp_path / "own"), lambda words: None)["baseline"]["difference"]
    assert found.rival.interval == pytest.approx(expected)  # type: ignore[union-attr]
    told = verdict(found, judge(found, spec), spec)
    assert (told["bootstrap"]["unit"], told["dataset"]["groups"]) == ("group", 7)
    assert "50 paired resamples of 7 groups" in text(told)
    assert rows.groups is None


def test_few_groups_do_not_decide_by_interval(models: Make) -> None:
    numbers = np.arange(90) % 4
    spec = rules(by="interval", bootstrap=200)
    with pytest.raises(InputError, match=r"of 4 groups, and gate\.min_groups asks for 5"):
        compete(models(), None, test_set(), spec, groups=numbers)
    assert compete(models(), None, test_set(), rules(by="interval", bootstrap=200, min_groups=4), groups=numbers)
    found = compete(models(), None, test_set(), groups=numbers)
    assert any("rest on 4 groups and are too narrow" in remark for remark in found.remarks)


def test_one_group_is_not_resampled(models: Make) -> None:
    test = test_set()
    found = compete(models(), None, test, groups=np.full(90, 5))
    rows = compete(models(), None, test)
    assert found.challenger.figures["intervals"] == rows.challenger.figures["intervals"]
    assert (found.groups, found.challenger.figures["bootstrap"]["unit"]) == (None, "row")
    assert any("of one group, so rows were resampled" in remark for remark in found.remarks)
    for wrong in (np.zeros(89, np.int64), np.array(["x"] * 90)):
        with pytest.raises(InputError, match="expected an integer for each of the 90 evaluated rows"):
            compete(models(), None, test, groups=wrong)


def test_what_is_not_known_is_refused(models: Make) -> None:
    model, test = models(), test_set()
    with pytest.raises(InputError, match=r"not known what the champion old was trained on.*register its run again"):
        contest(contender(model), contender(model, "old", None), test, **ROW)
    with pytest.raises(InputError, match="the challenger new was trained on a split by token"):
        contest(contender(model, training=NO_TOKEN), None, test, **ROW)
    empty = Sequences.open(dataset("token").map(lambda row: {"labels": [-100] * len(row["labels"])}), "labels")
    with pytest.raises(InputError, match="holds no labelled token"):
        contest(contender(models("token")), None, empty, **ROW)


def test_the_baseline_is_fitted_on_the_training_side(models: Make) -> None:
    spec = GateSpec(must_beat_baseline=True, bootstrap=50)
    train = Sequences.open(dataset(n=6, seed=8), "label")
    training = Training.of([train], "row")
    good = contest(contender(models(), training=training), None, test_set(), unit="row", spec=spec, train=train)
    (row,) = judge(good, spec)
    assert row.passed is True
    assert "fitted on the challenger's training side" in row.words
    bad = contest(contender(models(change=shuffled)), None, test_set(), unit="row", spec=spec, train=train)
    assert judge(bad, spec)[0].passed is False


def test_else_the_baseline_is_that_of_its_own_evaluation(models: Make) -> None:
    spec = GateSpec(must_beat_baseline=True, bootstrap=50)
    simple = {"metrics": {"macro_f1": 0.2}}
    told: dict[str, Any] = {
        "metrics": {"macro_f1": 0.6},
        "baseline": {
            "majority": simple,
            "logistic_regression": {"metrics": {"macro_f1": 0.7}, "features": "x"},
            "difference": [-0.2, -0.05],
        },
    }
    found = contest(contender(models(), evaluation=told), None, test_set(), unit="row", spec=spec)
    (row,) = judge(found, spec)
    assert (row.passed, row.challenger, row.difference) == (False, 0.6, pytest.approx(-0.1))
    assert "logistic regression on x, as in the challenger's own evaluation" in row.words
    without = contest(
        contender(models(), evaluation={**told, "baseline": None}), None, test_set(), unit="row", spec=spec
    )
    assert "there is no baseline" in judge(without, spec)[0].words


def test_speed_is_measured_in_turns_after_warming(models: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model warms up once and is timed at least four times, going first as often as not."""
    calls: list[tuple[str, int]] = []
    one, two = models(), models(change=swapped)
    before = Local.stream

    def noted(self: Local, part: Any) -> Any:
        same = torch.equal(self.trained.model.classifier.bias, first)  # type: ignore[union-attr,arg-type]
        calls.append(("new" if same else "old", len(part.rows)))
        return before(self, part)

    first = load_trained(one).model.classifier.bias  # type: ignore[union-attr]
    monkeypatch.setattr(Local, "stream", noted)
    found = compete(one, two, test_set(), rules(max_slowdown=1000, batch_size=48))
    assert calls[:2] == [("new", WARMING), ("old", WARMING)]
    turns = [name for name, _ in calls[2:]]
    assert turns == ["new", "old", "old", "new"] * (TURNS // 2)
    assert found.challenger.figures["units"] == 90
    assert judge(found, rules(max_slowdown=1000))[1].passed is True


def test_parts_hold_the_rows_of_any_view(models: Make) -> None:
    trained, test = load_trained(models()), test_set().view(np.array([40, 3, 77, 5]))
    rows, found = Local(trained, test, 2, "fp32").stream(Part(0, np.array([77, 5])))
    assert rows.rows.tolist() == [77, 5]
    expected = next(stream(trained, test.view(np.array([2, 3])), batch_size=2))
    assert np.array_equal(next(found).logits, expected.logits)
    assert np.array_equal(fingerprints(rows), fingerprints(test)[2:])


@pytest.mark.parametrize("end", [[], [7]])
def test_rows_with_a_label_are_kept(end: list[int]) -> None:
    """As many tokens as rows, but not one a row."""
    ids = [[], [5, 6], *([end] if end else [])]
    labels = [[], [1, -100], *([[-100]] if end else [])]
    made = Sequences.open(Dataset.from_dict({"input_ids": ids, "labels": labels}), "labels")
    assert labelled_rows(made).rows.tolist() == [1]
    rows = Sequences.open(Dataset.from_dict({"input_ids": [[1], [1, 2, 3], []], "label": [-100, 0, 1]}), "label")
    assert labelled_rows(rows).rows.tolist() == [1, 2]
    assert labelled_rows(rows.view(np.array([0]))).rows.tolist() == []


def test_frozen_sets_tell_their_classes(tmp_path: Path) -> None:
    named = dataset(n=9).cast_column("label", ClassLabel(names=["a", "b", "c"]))
    named.save_to_disk(str(tmp_path / "named"))
    dataset(n=9).save_to_disk(str(tmp_path / "x_labeled.dataset"))
    dataset(n=9).save_to_disk(str(tmp_path / "plain"))
    classmap.write(str(tmp_path), "x", {"b": 0, "a": 1})
    sequence = TASKS["sequence"]
    assert frozen(str(tmp_path / "named"), sequence)[1] == CLASSES
    assert frozen(str(tmp_path / "x_labeled.dataset") + "/", sequence)[1] == {"b": 0, "a": 1}
    found, classes = frozen(str(tmp_path / "plain"), sequence)
    assert (len(found), classes) == (9, None)
    tokens = dataset("token", n=9, label=[0] * 9).cast_column("label", ClassLabel(names=["x", "y"]))
    tokens.info.description = f"Genes.\n{classmap.describe({'b': 0, 'a': 1})}"
    tokens.save_to_disk(str(tmp_path / "tokens"))
    assert frozen(str(tmp_path / "tokens"), TASKS["token"])[1] == {"b": 0, "a": 1}
    Dataset.from_dict({"input_ids": [[1]]}).save_to_disk(str(tmp_path / "unlabelled"))
    with pytest.raises(InputError, match="no column 'label'"):
        frozen(str(tmp_path / "unlabelled"), sequence)
