"""What users of run_glue.py, run_classification.py and run_ner.py bring: arguments, and datasets as these make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, Trainer, TrainingArguments

from sortase import GenericClassifier

WORDS = ("good", "fine", "great", "bad", "poor", "awful", "film", "plot", "the", "a", "was", "paris", "rome", "anna")
SHORT = {"max_steps": 4, "logging_steps": 1}
COMMANDS = {  # from the README files and tests beside these scripts; the scripts' own arguments left out
    "run_glue mrpc": """--do_train --do_eval --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3
        --output_dir /tmp/mrpc/""",
    "run_glue test": """--output_dir out --overwrite_output_dir --do_train --do_eval --per_device_train_batch_size=2
        --per_device_eval_batch_size=1 --learning_rate=1e-4 --max_steps=10 --warmup_steps=2 --seed=42 --fp16""",
    "run_xnli": """--do_train --do_eval --per_device_train_batch_size 32 --learning_rate 5e-5 --num_train_epochs 2.0
        --output_dir /tmp/debug_xnli/ --save_steps -1""",
    "run_classification": """--do_train --do_eval --per_device_train_batch_size 32 --learning_rate 2e-5
        --num_train_epochs 1 --output_dir /tmp/amazon_reviews/""",
    "run_ner test": """--output_dir out --overwrite_output_dir --do_train --do_eval --seed 7 --use_cpu
        --warmup_steps=2 --learning_rate=2e-4 --num_train_epochs=2
        --per_device_train_batch_size=2 --per_device_eval_batch_size=2""",
    "image classification test": """--output_dir out --do_train --do_eval --learning_rate 1e-4
        --per_device_train_batch_size 2 --per_device_eval_batch_size 1 --remove_unused_columns False
        --overwrite_output_dir True --dataloader_num_workers 16 --metric_for_best_model accuracy --max_steps 10
        --seed 42""",
    "fine-tuning course": """--output_dir my_awesome_model --learning_rate 2e-5 --per_device_train_batch_size 16
        --per_device_eval_batch_size 16 --num_train_epochs 2 --weight_decay 0.01 --eval_strategy epoch
        --save_strategy epoch --load_best_model_at_end True --push_to_hub False --report_to none""",
}


def arguments(command: str) -> dict[str, Any]:
    """A command line as the dictionary that it is in Python."""
    found: dict[str, Any] = {}
    parts = [part for word in command.split() for part in word.split("=")]
    for part, after in zip(parts, [*parts[1:], "--"], strict=True):
        if part.startswith("--"):
            found[part.removeprefix("--")] = True if after.startswith("--") else typed(after)
    return found


def typed(text: str) -> Any:
    try:
        return {"True": True, "False": False}.get(text) if text in ("True", "False") else json.loads(text)
    except ValueError:
        return text


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained BERT with its WordPiece vocabulary."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


def sentences(n: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [["the", "film", "was", *rng.choice(WORDS[3 * (i % 2) : 3 * (i % 2) + 3], 1 + i % 4)] for i in range(n)]


@pytest.fixture
def reviews(checkpoint: Path, tmp_path: Path) -> str:
    """As run_glue.py makes them: padded to max_seq_length, with attention_mask and token_type_ids."""
    tokenizer = BertTokenizer.from_pretrained(checkpoint)
    texts = [" ".join(words) for words in sentences()]
    encoded = tokenizer(texts, padding="max_length", max_length=16, truncation=True)
    data = Dataset.from_dict({"sentence": texts, "label": [i % 2 for i in range(len(texts))], **encoded})
    data = data.cast_column("label", ClassLabel(names=["positive", "negative"]))
    data.save_to_disk(tmp_path / "reviews.dataset")
    return str(tmp_path / "reviews.dataset")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_command_lines_are_understood(command: str, reviews: str, checkpoint: Path, tmp_path: Path) -> None:
    given = {**arguments(command), "max_steps": 2}
    trainer = GenericClassifier("label", training_args=given, nproc=1).train(
        str(checkpoint), reviews, str(tmp_path / "o")
    )
    for name in ("learning_rate", "warmup_steps", "per_device_train_batch_size", "seed"):
        if name in given:
            assert getattr(trainer.args, name) == given[name]
    assert trainer.model.config.label2id == {"positive": 0, "negative": 1}


def test_every_default_of_training_arguments_is_understood(reviews: str, checkpoint: Path, tmp_path: Path) -> None:
    defaults = {**TrainingArguments(output_dir=str(tmp_path / "theirs")).to_dict(), **SHORT}
    trainer = GenericClassifier("label", training_args=defaults, nproc=1).train(
        str(checkpoint), reviews, str(tmp_path / "ours")
    )
    assert trainer.args.weight_decay == 0.0
    assert trainer.args.per_device_train_batch_size == 8


def test_what_is_done_with_a_trainer_afterwards(reviews: str, checkpoint: Path, tmp_path: Path) -> None:
    trainer = GenericClassifier("label", training_args=SHORT, nproc=1).train(
        str(checkpoint), reviews, str(tmp_path / "o")
    )
    assert isinstance(trainer, Trainer)
    data = load_from_disk(reviews)
    metrics = trainer.evaluate(data)
    assert {"eval_loss", "eval_accuracy"} <= metrics.keys()
    predictions, labels, metrics = trainer.predict(data, metric_key_prefix="predict")
    assert labels.tolist() == data["label"]
    assert predictions.shape == (len(data), 2)
    assert metrics["predict_accuracy"] == pytest.approx(np.mean(predictions.argmax(1) == labels))
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").exists()


def test_pads_in_the_data_are_not_trained_on(reviews: str, checkpoint: Path, tmp_path: Path) -> None:
    """Padded by a tokenizer or left as they are, rows are the same rows."""
    tokenizer = BertTokenizer.from_pretrained(checkpoint)
    padded = load_from_disk(reviews)
    bare = padded.remove_columns(["input_ids", "attention_mask", "token_type_ids"])
    bare = bare.add_column("input_ids", tokenizer(list(padded["sentence"]))["input_ids"])
    bare.save_to_disk(tmp_path / "bare.dataset")
    losses = []
    for name, path in (("padded", reviews), ("bare", str(tmp_path / "bare.dataset"))):
        classifier = GenericClassifier("label", training_args=SHORT, nproc=1)
        trainer = classifier.train(str(checkpoint), path, str(tmp_path / name))
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


NER = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-LOC", "B-PER"]))}


@pytest.fixture
def tagged(checkpoint: Path, tmp_path: Path) -> str:
    """As run_ner.py's tokenize_and_align_labels makes them: -100 for special tokens and the rest of a word."""
    tokenizer = BertTokenizer.from_pretrained(checkpoint)
    words = [[*sentence, *(["paris"] if i % 3 else ["annas"])] for i, sentence in enumerate(sentences())]
    tags = [[0] * (len(sentence) - 1) + [1 if sentence[-1] == "paris" else 2] for sentence in words]
    data = Dataset.from_dict({"tokens": words, "ner_tags": tags}, features=Features(NER))

    def align(batch: dict[str, Any]) -> Any:
        encoded = tokenizer(batch["tokens"], truncation=True, is_split_into_words=True)
        encoded["labels"] = []
        for row, labels in enumerate(batch["ner_tags"]):
            before, aligned = None, []
            for word in encoded.word_ids(row):
                aligned.append(-100 if word is None or word == before else labels[word])
                before = word
            encoded["labels"].append(aligned)
        return encoded

    data.map(align, batched=True).save_to_disk(tmp_path / "tagged.dataset")
    return str(tmp_path / "tagged.dataset")


def test_tags_of_words(tagged: str, checkpoint: Path, tmp_path: Path) -> None:
    classifier = GenericClassifier(
        "labels",
        classifier_type="token",
        label_mapping={"O": 0, "B-LOC": 1, "B-PER": 2},
        training_args=arguments(COMMANDS["run_ner test"]) | SHORT,
        nproc=1,
    )
    trainer = classifier.train(str(checkpoint), tagged, str(tmp_path / "model"))
    assert trainer.model.config.label2id == {"O": 0, "B-LOC": 1, "B-PER": 2}
    data = load_from_disk(tagged)
    labels = trainer.predict(data).label_ids
    assert [row[row != -100].tolist() for row in labels] == data["ner_tags"]
