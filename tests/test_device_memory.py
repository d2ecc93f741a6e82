"""A GPU's memory and its owners, with the GPU's part faked: words in place of a traceback, and nothing kept."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification

from makers import CLASSES, architecture, dataset, run_training, train_job
from sortase import predict_from_checkpoint
from sortase.data.sequences import Sequences
from sortase.errors import ConfigError, DeviceMemoryError
from sortase.model import inference
from sortase.model.device_memory import explained_memory
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS
from sortase.train.job import save
from sortase.train.ranks import JoinedRanks


def exhausted(*arguments: Any, **options: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {"per_device_train_batch_size": 5},
            ["train.max_tokens_per_device (not set; it was", "train.per_device_train_batch_size (5) and",
             "train.global_batch_size: 5", "gradient_checkpointing: true"],
            id="global batch by default",
        ),
        pytest.param(
            {"global_batch_tokens": 300, "max_tokens_per_device": 80},
            ["train.max_tokens_per_device (80)", "train.per_device_train_batch_size (8), or"],
            id="own global batch",
        ),
    ],
)  # fmt: skip
def test_training_that_does_not_fit_names_its_settings(
    settings: dict[str, Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sortase.train.trainer.summed_loss", exhausted)
    with pytest.raises(DeviceMemoryError, match=r"rows of .* tokens at a time does not fit") as caught:
        run_training(tmp_path, train_job(**settings))
    assert all(part in str(caught.value) for part in words), str(caught.value)


def test_scoring_that_does_not_fit_names_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(TASKS["sequence"], CLASSES, None, load_config(None, architecture()), 1)
    trained, data = Trained(model, None, TASKS["sequence"], CLASSES, 64, 0), dataset(n=9)
    save(trained, str(tmp_path / "model"))
    data.save_to_disk(str(tmp_path / "data"))
    monkeypatch.setattr(BertForSequenceClassification, "forward", exhausted)
    with pytest.raises(DeviceMemoryError, match=r"scoring 4 rows of .* lower evaluate\.batch_size"):
        list(inference.stream(trained, Sequences.open(data), batch_size=4))
    with pytest.raises(DeviceMemoryError, match=r"lower batch_size \(CUDA out of memory\)"):
        predict_from_checkpoint(str(tmp_path / "model"), str(tmp_path / "data"), batch_size=4)


def test_what_did_not_fit_is_let_go() -> None:
    class Activations:
        pass

    seen: list[weakref.ref] = []

    def forward() -> None:
        held = Activations()
        seen.append(weakref.ref(held))
        exhausted()

    with pytest.raises(DeviceMemoryError), explained_memory(lambda: "too large"):
        forward()
    assert seen[0]() is None


def test_a_trained_model_keeps_no_optimizer_and_no_gradients(tmp_path: Path) -> None:
    fitted, trained = run_training(tmp_path, train_job(num_train_epochs=1))
    assert fitted.trainer.optimizer is None
    assert all(parameter.grad is None for parameter in trained.model.parameters())
    gone = weakref.ref(trained.model)
    assert fitted.trainer.evaluate(dataset(n=10))["eval_loss"] > 0
    del fitted, trained
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("hosts", "gpus", "shared"),
    [
        pytest.param(["a", "a"], ["GPU-1", "GPU-1"], "workers 0 and 1 share one GPU of a", id="shared"),
        pytest.param(["a", "a"], ["GPU-1", "GPU-2"], None, id="one each"),
        pytest.param(["a", "b"], ["GPU-1", "GPU-1"], None, id="two machines"),
    ],
)
def test_workers_that_share_a_gpu_are_refused(
    hosts: list[str], gpus: list[str], shared: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([hosts, gpus])

    def all_gather_object(values: list[Any], value: Any, group: Any) -> None:
        values[:] = next(told)

    fakes = {"get_rank": lambda: 0, "get_world_size": lambda: 2, "get_backend": lambda: "nccl"}
    for name, fake in {**fakes, "new_group": lambda backend: None, "all_gather_object": all_gather_object}.items():
        monkeypatch.setattr(f"torch.distributed.{name}", fake)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: SimpleNamespace(uuid=gpus[number]))
    if shared is None:
        assert JoinedRanks().world_size == 2
        return
    with pytest.raises(ConfigError, match=f"{shared}, .*compute.gpus_per_worker"):
        JoinedRanks()
