"""Rows that are padded already, and token types: what transformers makes of the same arrays, without labelling pads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk

from makers import CLASSES, architecture, rows, run_training, train_job
from sortase import predict_from_checkpoint
from sortase.config.evaluate import EvaluateSpec
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.data.fingerprints import fingerprints
from sortase.data.sequences import Sequences
from sortase.errors import InputError, InputTypeError
from sortase.model.load import Trained, build_model, load_config
from sortase.model.loss import summed_loss
from sortase.model.task import TASKS
from sortase.prepare.prepare import prepare
from sortase.score.evaluate import EvaluateJob, evaluate
from sortase.train.job import save
from sortase.train.trainer import Batches

WIDTH = 45
PAD = 0


def columns(side: str, kind: str, typed: bool = False, n: int = 12) -> dict[str, list]:
    """Rows padded to one width, as ``tokenizer.pad`` leaves them, with labels that mark pads as transformers does."""
    found: dict[str, list] = {"input_ids": [], "attention_mask": []}
    found |= {"token_type_ids": []} if typed else {}
    labels: list[Any] = []
    for row in rows(n):
        pads = WIDTH - len(row)
        parts = {"input_ids": (row, PAD), "attention_mask": ([1] * len(row), 0)}
        types = [int(place > len(row) // 2) for place in range(len(row))]
        parts |= {"token_type_ids": (types, 0)} if typed else {}
        tags = ([token % 3 if token % 2 else -100 for token in row], -100)
        for name, (values, fill) in [*parts.items(), ("labels", tags)]:
            padded = [fill] * pads + values if side == "left" else values + [fill] * pads
            (labels if name == "labels" else found[name]).append(padded)
    return found | ({"labels": labels} if kind == "token" else {"label": [i % 3 for i in range(n)]})


def tiny(kind: str, model_type: str = "bert", **changes: Any) -> Trained:
    sizes = architecture(model_type, **changes)
    if model_type == "roberta":
        sizes |= {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    if model_type == "gpt2":
        sizes = {"model_type": "gpt2", "vocab_size": 60, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
        sizes |= {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 1}
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, sizes), 1).eval()
    with torch.no_grad():  # so that positions and types of tokens matter
        for parameter in model.parameters():
            parameter.mul_(3)
    return Trained(model, None, TASKS[kind], CLASSES, 60, PAD)


def as_transformers(trained: Trained, data: dict[str, list]) -> torch.Tensor:
    """Logits of each row, or of each token that the mask shows, with the arrays as they are."""
    names = [name for name in data if name in ("input_ids", "attention_mask", "token_type_ids")]
    with torch.inference_mode():
        logits = trained.model(**{name: torch.tensor(data[name]) for name in names}).logits
    return logits if trained.task.unit == "row" else logits[torch.tensor(data["attention_mask"]).bool()]


CASES = [
    pytest.param("bert", "right", False, id="right"),
    pytest.param("bert", "left", False, id="left"),
    pytest.param("bert", "right", True, id="types"),
    pytest.param("bert", "left", True, id="left with types"),
    pytest.param("roberta", "left", False, id="positions from ids"),
    pytest.param("gpt2", "left", False, id="decoder"),
]


@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize(("family", "side", "typed"), CASES)
def test_predictions_are_those_of_the_same_arrays(
    kind: str, family: str, side: str, typed: bool, tmp_path: Path
) -> None:
    trained, data = tiny(kind, family), columns(side, kind, typed)
    save(trained, str(tmp_path / "model"))
    Dataset.from_dict(data).save_to_disk(str(tmp_path / "data"))
    ids, logits = predict_from_checkpoint(str(tmp_path / "model"), str(tmp_path / "data"), kind, 5, return_logits=True)
    expected = as_transformers(trained, data).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)
    assert ids == expected.argmax(1).tolist()


@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_in_training_is_that_of_the_same_arrays(kind: str, side: str) -> None:
    trained, data = tiny(kind), columns(side, kind, typed=True)
    sequences = Sequences.open(Dataset.from_dict(data), trained.task.label_column)
    step = Batches(sequences, trained.task, np.ones(3, np.float32), 60, PAD, 4, None)(list(range(12)))
    ours = 0.0
    for micro in step["micro"]:
        labels = micro.pop("labels")
        logits = trained.model(**micro).logits
        ours += summed_loss(logits, labels, torch.ones(3)).item() / step["denominator"]
    given = {("labels" if name == "label" else name): torch.tensor(values) for name, values in data.items()}
    assert ours == pytest.approx(trained.model(**given).loss.item(), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_evaluation_counts_tokens_and_not_pads(side: str, tmp_path: Path) -> None:
    trained, data = tiny("token"), columns(side, "token", typed=True)
    sequences = Sequences.open(Dataset.from_dict(data), "labels")
    job = EvaluateJob(
        trained=trained,
        test=sequences,
        train=sequences,
        split_unit="row",
        settings=EvaluateSpec(bootstrap=0),
        precision="fp32",
        seed=0,
    )
    metrics = evaluate(job, str(tmp_path), lambda text: None)["metrics"]
    given = {name: torch.tensor(values) for name, values in data.items()}
    with torch.inference_mode():
        found = trained.model(**given)
    counted = given["labels"] != -100
    right = (found.logits.argmax(-1) == given["labels"])[counted].float().mean().item()
    assert metrics["loss"] == pytest.approx(found.loss.item(), abs=1e-4)
    assert metrics["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("side", ["left", "right"])
def test_training_reads_the_tokens_of_padded_rows_only(side: str, tmp_path: Path) -> None:
    """What is written into padding changes no weight, and what useful tokens are counted are the rows' own."""
    results = []
    for name, fill in (("pads", PAD), ("rubbish", 99)):
        data = columns(side, "sequence", n=60)
        masks = np.array(data["attention_mask"])
        data["input_ids"] = np.where(masks == 1, data["input_ids"], fill).tolist()
        fitted, trained = run_training(tmp_path / name, train_job(data=Dataset.from_dict(data), num_train_epochs=1))
        assert fitted.trainer.batches.useful_tokens == masks[30:].sum()
        results.append(trained.model.state_dict())
    for name, weight in results[0].items():
        torch.testing.assert_close(results[1][name], weight, msg=name)


def test_a_masked_token_inside_a_row_is_a_token_still() -> None:
    data = columns("right", "token")
    for mask in data["attention_mask"]:
        mask[1] = 0
    sequences = Sequences.open(Dataset.from_dict(data), "labels")
    found = sequences.model_inputs(np.arange(12), 60, PAD)["attention_mask"]
    assert found.tolist() == np.array(data["attention_mask"])[:, : found.shape[1]].tolist()
    assert sequences.lengths.tolist() == [len(row) for row in rows(12)]


def test_tokens_push_out_padding_where_both_have_no_room() -> None:
    data = Dataset.from_dict({"input_ids": [[0, 0, 5, 6, 7]], "attention_mask": [[0, 0, 1, 1, 1]]})
    inputs = Sequences.open(data).model_inputs(np.array([0]), 4, PAD)
    assert inputs["input_ids"].tolist() == [[0, 5, 6, 7]]
    assert inputs["attention_mask"].tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_known_by_their_tokens(side: str) -> None:
    padded = Sequences.open(Dataset.from_dict(columns(side, "sequence")))
    bare = Sequences.open(Dataset.from_dict({"input_ids": rows(12)}))
    assert fingerprints(padded).tolist() == fingerprints(bare).tolist()
    assert padded.lengths.tolist() == bare.lengths.tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_preparation_counts_tokens_and_keeps_the_columns(side: str, tmp_path: Path) -> None:
    data = columns(side, "sequence")
    data["attention_mask"][3] = [0] * WIDTH  # a row without a token
    prepare(Dataset.from_dict(data), DataSpec(nproc=1), LabelSpec(column="label"), str(tmp_path), "p")
    made = load_from_disk(str(tmp_path / "p_labeled.dataset"))
    kept = [i for i in range(12) if i != 3]
    assert made["length"] == [sum(data["attention_mask"][i]) for i in kept]
    assert made["attention_mask"] == [data["attention_mask"][i] for i in kept]
    assert made["input_ids"] == [data["input_ids"][i] for i in kept]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_audit_of_a_split_compares_tokens(side: str, tmp_path: Path) -> None:
    """Padding makes rows neither alike nor different."""
    data = columns(side, "sequence", n=60)
    for name in ("input_ids", "attention_mask"):
        data[name][40:] = data[name][:20]
    bare = [np.array(row)[np.array(mask) == 1].tolist() for row, mask in zip(*list(data.values())[:2], strict=True)]
    summaries = []
    for name, columns_of in (("padded", data), ("bare", {"input_ids": bare, "label": data["label"]})):
        labels, split = LabelSpec(column="label"), SplitSpec()
        made = prepare(Dataset.from_dict(columns_of), DataSpec(nproc=1), labels, str(tmp_path / name), "p", split=split)
        summaries.append({key: value for key, value in made.summary.items() if key not in ("inputs", "column")})
    assert summaries[0] == summaries[1]
    assert summaries[0]["split"]["near_duplicates"]["copies"] > 0


@pytest.mark.parametrize(
    ("mask", "kind", "words"),
    [
        pytest.param([[1, 1], [1]], InputError, "row 1 has 2 tokens and 1 values in 'attention_mask'", id="length"),
        pytest.param([[1, 1], [1, 2]], InputError, "row 1 has 2 in 'attention_mask'; allowed: 1", id="value"),
        pytest.param([[1, 1], [1, None]], InputError, "'attention_mask' has missing values", id="null"),
        pytest.param([1, 0], InputTypeError, "'attention_mask' holds int8; expected lists", id="number"),
        pytest.param([["a"], ["b"]], InputTypeError, "'attention_mask' holds list<.*: string>", id="text"),
    ],
)
def test_masks_that_are_none_are_refused(mask: Any, kind: type[Exception], words: str, tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[5, 6], [7, 8]], "attention_mask": mask, "label": ["a", "b"]})
    with pytest.raises(kind, match=words):
        Sequences.open(data)
    with pytest.raises(kind, match=words):
        prepare(data, DataSpec(nproc=1), LabelSpec(column="label"), str(tmp_path / "out"), "p")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("values", [[[True, False]], [[1.0, 0.0]], [[1, 0]]], ids=["bool", "float", "int"])
def test_masks_of_any_number_type_are_read(values: list) -> None:
    data = Dataset.from_dict({"input_ids": [[5, 0]], "attention_mask": values})
    assert Sequences.open(data).lengths.tolist() == [1]


def test_types_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    data = columns("right", "sequence", typed=True, n=60)
    data["token_type_ids"][40][1] = 2
    with pytest.raises(InputError, match=r"row 40 has 2 in 'token_type_ids', but the model has 2 \(0 to 1\)"):
        run_training(tmp_path, train_job(data=Dataset.from_dict(data)))


def test_types_without_effect_are_named(tmp_path: Path) -> None:
    trained = tiny("sequence", "distilbert")
    save(trained, str(tmp_path / "model"))
    Dataset.from_dict(columns("right", "sequence", typed=True)).save_to_disk(str(tmp_path / "data"))
    with pytest.warns(UserWarning, match="'token_type_ids' has no effect: DistilBertForSequenceClassification"):
        predict_from_checkpoint(str(tmp_path / "model"), str(tmp_path / "data"))
