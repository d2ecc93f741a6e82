"""Training: the loss, interruption at any moment, selection of the best, freezing."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from makers import CLASSES, architecture, assert_same_weights, dataset, run_training, train_job, weights
from sortase.config.model import ModelSpec
from sortase.data.batches import BatchPlan
from sortase.data.sequences import Sequences
from sortase.errors import CancelledError, ConfigError, InputError, MissingExtraError, WorkFailedError
from sortase.model.load import build_model, load_config
from sortase.model.loss import summed_loss
from sortase.model.task import TASKS
from sortase.train.callbacks import patience_is_over
from sortase.train.trainer import Batches

KINDS = ["sequence", "token"]


def gradients(kind: str, world_size: int, max_rows: int, weights: np.ndarray) -> tuple[float, torch.Tensor]:
    """Loss and flat gradient of one global batch, divided among ranks and micro-batches."""
    task = TASKS[kind]
    sequences = Sequences.open(dataset(kind), task.label_column)
    config = load_config(None, architecture(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    model = build_model(task, CLASSES, None, config, 3)
    batch = BatchPlan(lengths=sequences.lengths, seed=0, batch_size=13).epoch(0)[0].tolist()
    total = 0.0
    for rank in range(world_size):
        batches = Batches(sequences, task, weights, 64, 0, max_rows, None, rank, world_size)
        step = batches(batch)
        for micro in step["micro"]:
            labels = micro.pop("labels")
            loss = summed_loss(model(**micro).logits, labels, torch.from_numpy(weights)) / step["denominator"]
            loss.backward()
            total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balance", [pytest.param(False, id="equal"), pytest.param(True, id="weighted")])
@pytest.mark.parametrize(
    ("world_size", "max_rows"),
    [
        pytest.param(1, 3, id="accumulated"),
        pytest.param(2, 13, id="two ranks"),
        pytest.param(4, 2, id="four ranks, accumulated"),
        pytest.param(16, 8, id="more ranks than rows"),
    ],
)
def test_dividing_a_batch_changes_nothing(kind: str, balance: bool, world_size: int, max_rows: int) -> None:
    weights = np.array([0.5, 1.0, 3.0] if balance else [1, 1, 1], dtype=np.float32)
    loss, gradient = gradients(kind, 1, 13, weights)
    divided_loss, divided_gradient = gradients(kind, world_size, max_rows, weights)
    assert divided_loss == pytest.approx(loss, abs=1e-5)
    torch.testing.assert_close(divided_gradient, gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_reported_loss_is_the_mean_over_labels(kind: str, tmp_path: Path) -> None:
    """The first logged loss of a new model is near log(classes), whatever the accumulation."""
    for per_device in (2, 8):
        job = train_job(kind, per_device_train_batch_size=per_device, global_batch_size=8, logging_steps=1, max_steps=1)
        fitted, _ = run_training(tmp_path / str(per_device), job)
        first = next(entry["loss"] for entry in fitted.trainer.state.log_history if "loss" in entry)
        assert first == pytest.approx(np.log(3), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns(kind: str, tmp_path: Path) -> None:
    job = train_job(kind, num_train_epochs=30, learning_rate=5e-3, save_steps=200)
    fitted, _ = run_training(tmp_path, job)
    history = [entry["eval_accuracy"] for entry in fitted.trainer.state.log_history if "eval_accuracy" in entry]
    assert max(history) > 0.9


SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    from makers import run_training, train_job
    run_training({folder!r}, train_job({kind!r}, num_train_epochs=6))
"""


def start(folder: Path, kind: str) -> subprocess.Popen:
    code = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), kind=kind))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)


def wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not any(folder.glob(pattern)):
        if process.poll() is not None:
            raise AssertionError(f"training ended before {pattern}: {process.stderr.read().decode()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"no {pattern} after 120 s")
        time.sleep(0.002)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_training_continues_to_the_same_weights(kind: str, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_training(straight, train_job(kind, num_train_epochs=6))
    for moment in ("checkpoints/step-00000008/manifest.json", "checkpoints/step-00000020/*/model.safetensors"):
        process = start(broken, kind)
        wait_for(broken, moment, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (broken / "model").exists()
    fitted, _ = run_training(broken, train_job(kind, num_train_epochs=6))
    assert fitted.summary["resumed_from"] >= 8
    assert_same_weights(weights(broken), weights(straight))


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_training(straight, train_job())
    with pytest.raises(CancelledError):
        stop_after(10, broken)
    newest = max((broken / "checkpoints").iterdir())
    (state,) = newest.glob("*/optimizer.pt")
    state.write_bytes(state.read_bytes()[:-7])
    fitted, _ = run_training(broken, train_job())
    assert fitted.summary["resumed_from"] == 8
    assert_same_weights(weights(broken), weights(straight))


def stop_after(steps: int, folder: Path) -> None:
    asked = iter([False] * (steps - 1) + [True] * 1000)
    run_training(folder, train_job(), should_stop=lambda: next(asked))


def test_stop_on_request_keeps_a_checkpoint_of_that_step(tmp_path: Path) -> None:
    with pytest.raises(CancelledError, match="step 5 of") as caught:
        stop_after(5, tmp_path / "stopped")
    assert caught.value.exit_code == 5
    fitted, _ = run_training(tmp_path / "stopped", train_job())
    assert fitted.summary["resumed_from"] == 5
    run_training(tmp_path / "straight", train_job())
    assert_same_weights(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))


def test_finished_steps_without_a_model_are_not_trained_again(tmp_path: Path) -> None:
    """Killed between the last checkpoint and the saved model."""
    import shutil

    run_training(tmp_path, train_job(save_steps=1000))
    before = weights(tmp_path)
    shutil.rmtree(tmp_path / "model")
    fitted, _ = run_training(tmp_path, train_job(save_steps=1000))
    assert fitted.summary["useful_tokens_per_second"] == 0
    assert_same_weights(weights(tmp_path), before)


def test_later_attempt_fences_off_the_earlier(tmp_path: Path) -> None:
    from sortase.runs.folder import RunFolder

    first = RunFolder(str(tmp_path))
    first.begin()
    RunFolder(str(tmp_path)).begin()
    with pytest.raises(CancelledError, match="attempt 2"):
        first.fence()


def test_best_model_is_saved_and_kept(tmp_path: Path) -> None:
    job = train_job(num_train_epochs=8, learning_rate=2e-2, save_total_limit=1)
    fitted, trained = run_training(tmp_path, job)
    history = {e["step"]: e["eval_macro_f1"] for e in fitted.trainer.state.log_history if "eval_macro_f1" in e}
    best = max(history, key=lambda step: (history[step], -step))
    assert fitted.summary["best_step"] == best
    assert fitted.trainer.evaluate()["eval_macro_f1"] == pytest.approx(history[best])
    assert fitted.trainer.model is trained.model
    steps = {json.loads(p.read_text())["step"] for p in tmp_path.glob("checkpoints/*/manifest.json")}
    assert best in steps
    assert len(steps) <= 2


@pytest.mark.parametrize(
    ("values", "over"),
    [
        pytest.param([0.1, 0.2, 0.3], False, id="improving"),
        pytest.param([0.3, 0.2, 0.1], True, id="worse twice"),
        pytest.param([0.3, 0.305, 0.309], True, id="below threshold"),
        pytest.param([0.3, 0.2, 0.4, 0.1], False, id="recovered"),
    ],
)
def test_patience(values: list[float], over: bool) -> None:
    assert patience_is_over(values, 2, 0.01) is over


def test_early_stopping_ends_training(tmp_path: Path) -> None:
    job = train_job(num_train_epochs=50, learning_rate=1e-9, early_stopping_patience=2)
    fitted, _ = run_training(tmp_path, job)
    assert fitted.summary["epochs"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("layers", "frozen"), [(1, ["embeddings.", "layer.0."]), (2, ["embeddings.", "layer.0.", "layer.1."])]
)
def test_frozen_layers_include_the_embeddings(layers: int, frozen: list[str], tmp_path: Path) -> None:
    spec = ModelSpec(config=architecture(), freeze_layers=layers)
    before = build_model(TASKS["sequence"], CLASSES, None, load_config(None, architecture()), 7).state_dict()
    run_training(tmp_path, train_job(model=spec, keep_best=False))
    after = weights(tmp_path)
    for name, value in after.items():
        unchanged = np.array_equal(value, before[name].numpy())
        assert unchanged == any(part in name for part in frozen), name


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "modernbert", "esm", "electra"])
@pytest.mark.parametrize("kind", KINDS)
def test_encoder_families_train_and_load_again(model_type: str, kind: str, tmp_path: Path) -> None:
    from sortase.model.load import load_trained

    spec = ModelSpec(config=architecture(model_type), freeze_layers=1)
    run_training(tmp_path, train_job(kind, model=spec, max_steps=2))
    trained = load_trained(str(tmp_path / "model"))
    assert trained.task is TASKS[kind]
    assert trained.class_map == CLASSES


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        pytest.param(
            {"model": ModelSpec(config=architecture(), freeze_layers=3)}, ConfigError, "2 layers", id="freeze"
        ),
        pytest.param({"model": ModelSpec(config=architecture(vocab_size=20))}, InputError, "row .* token id", id="ids"),
        pytest.param({"model": ModelSpec(config=architecture("brt"))}, ConfigError, "bert", id="family"),
        pytest.param(
            {"model": ModelSpec(config=architecture(hidden_sise=3))}, ConfigError, "hidden_size", id="setting"
        ),
        pytest.param({"optim": "lomo"}, MissingExtraError, "needs another package: .*lomo", id="package"),
        pytest.param({"optim_args": "fast"}, ConfigError, "do not fit together: .*optim_args='fast'", id="optimizer"),
        pytest.param({"lr_scheduler_kwargs": {"x": 1}}, ConfigError, r"lr_scheduler_kwargs=\{'x': 1\}", id="scheduler"),
        pytest.param({"class_weights": {"z": 1.0}}, ConfigError, "unknown class 'z'", id="weights"),
        pytest.param({"early_stopping_patience": 1, "eval_strategy": "no"}, ConfigError, "validation", id="patience"),
        pytest.param({"global_batch_size": 1, "global_batch_tokens": 1}, ConfigError, "not both", id="two sizes"),
    ],
)
def test_bad_input_is_found_before_training(change: dict, error: type, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        run_training(tmp_path, train_job(**change))
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "model").exists()


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    data = dataset().map(lambda row: {"label": row["label"] + 1})
    with pytest.raises(InputError, match="has label 3, but there are 3 classes"):
        run_training(tmp_path, train_job(data=data))


def test_overlong_sequences_are_cut_with_a_note(tmp_path: Path) -> None:
    job = train_job(model=ModelSpec(config=architecture(), max_length=10), max_steps=1)
    fitted, trained = run_training(tmp_path, job)
    assert trained.max_length == 10
    assert any("cut to 10 tokens" in note for note in fitted.summary["notes"])


def test_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(WorkFailedError, match="learning rate"):
        run_training(tmp_path, train_job(learning_rate=1e30, max_grad_norm=0, logging_steps=1, num_train_epochs=5))


def test_bf16_on_request(tmp_path: Path) -> None:
    from dataclasses import replace

    from sortase.config.compute import ComputeSpec

    job = replace(train_job(max_steps=2), compute=ComputeSpec(device="cpu", precision="bf16"))
    fitted, trained = run_training(tmp_path, job)
    assert fitted.summary["precision"] == "bf16"
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32}


def test_arguments_without_effect_get_one_line_of_the_training(tmp_path: Path) -> None:
    fitted, _ = run_training(tmp_path, train_job(max_steps=1, output_dir="out", dataloader_num_workers=4))
    (note,) = [note for note in fitted.summary["notes"] if "no effect" in note]
    assert note == (
        "these training arguments have no effect here: output_dir (files go to the folder of the run (run.output and "
        "run.name)), dataloader_num_workers (batches are gathered from memory-mapped data in the training process)"
    )


def test_without_tqdm_there_is_no_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.train import callbacks

    shown: list[str] = []
    monkeypatch.setattr(callbacks.ShowProgress, "on_train_begin", lambda *given, **named: shown.append("train"))
    run_training(tmp_path / "with", train_job(max_steps=1, disable_tqdm=False))
    assert shown == ["train"]
    run_training(tmp_path / "without", train_job(max_steps=1, disable_tqdm=True))
    assert shown == ["train"]


def test_full_determinism_is_of_the_training_alone(tmp_path: Path) -> None:
    environment = dict(os.environ)
    seen: list[bool] = []

    def should_stop() -> bool:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return False

    run_training(tmp_path, train_job(max_steps=1, full_determinism=True), should_stop=should_stop)
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert {name: os.environ.get(name) for name in environment} == environment
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ.keys() - environment.keys()


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    import random

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    run_training(tmp_path, train_job(max_steps=1))
    drawn = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert drawn == (random.random(), np.random.random(), torch.rand(1).item())


def test_only_what_was_trained_is_counted(tmp_path: Path) -> None:
    """Batches are made ahead; those that are not trained on count for nothing."""
    job = train_job(max_steps=3)
    fitted, _ = run_training(tmp_path, job)
    batches, lengths = fitted.trainer.plan.epoch(0)[:3], job.train.lengths
    assert fitted.trainer.batches.useful_tokens == sum(int(lengths[rows].sum()) for rows in batches)
    assert fitted.trainer.batches.padded_tokens == sum(int(lengths[rows].max()) * len(rows) for rows in batches)
    assert fitted.summary["data_wait_seconds"] >= 0


def test_an_error_in_the_data_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the batch was made ahead, in another thread."""
    made = Batches._collate

    def broken(self: Batches, rows: np.ndarray) -> dict[str, torch.Tensor]:
        if threading.current_thread() is threading.main_thread():
            raise AssertionError("a batch was made in the main thread")
        if len(rows) < 8:
            raise InputError("row 7 cannot be read")
        return made(self, rows)

    monkeypatch.setattr(Batches, "_collate", broken)
    with pytest.raises(InputError, match="row 7 cannot be read"):
        run_training(tmp_path, train_job())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_compiled_model_trains_and_is_saved_plain(tmp_path: Path) -> None:
    """``torch_compile`` changes no step; the eager backend compiles without a C++ compiler."""
    settings = {"max_steps": 2, "per_device_train_batch_size": 3, "eval_strategy": "no", "save_strategy": "no"}
    run_training(tmp_path / "plain", train_job(**settings))
    fitted, _ = run_training(tmp_path / "fast", train_job(**settings, torch_compile_backend="eager"))
    assert fitted.trainer.args.torch_compile
    plain, fast = weights(tmp_path / "plain"), weights(tmp_path / "fast")
    assert plain.keys() == fast.keys()
    for name in plain:
        np.testing.assert_allclose(fast[name], plain[name], atol=1e-5, err_msg=name)


def test_tf32_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tf32"):
        run_training(tmp_path, train_job(tf32=True))
