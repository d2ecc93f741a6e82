"""What a file of a checkpoint can do: tensors and plain values come of it, and nothing in it is executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sortase.config.compute import ComputeSpec
from sortase.errors import InputError
from sortase.train.deepspeed import weights_only

ZERO = ComputeSpec(workers=1, deepspeed=2)


class Executed:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepSpeed's own loader of checkpoints."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    return TorchCheckpointEngine()


def test_a_zero_checkpoint_is_not_executed(engine: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    engine.save({"optimizer_state_dict": {"loss_scaler": Executed(tmp_path / "executed")}}, path)
    refused = pytest.raises(InputError, match="holds more than weights and is not read: Weights only load failed")
    with refused, weights_only(ZERO):
        engine.load(path)
    assert not (tmp_path / "executed").exists()
    engine.load(path)
    assert (tmp_path / "executed").exists()  # so it was live


def test_what_a_zero_checkpoint_holds_is_read(engine: Any, tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {
        "base_optimizer_state": {"state": {0: {"exp_avg": torch.arange(4.0)}}},
        "loss_scaler": LossScaler(2.0),
        "zero_stage": ZeroStageEnum.gradients,
        "param_slice_mappings": [{"w": fragment_address(4, 8)}],
        "shape": torch.Size([2, 2]),
    }
    engine.save(state, str(tmp_path / "state.pt"))
    with weights_only(ZERO):
        found = engine.load(str(tmp_path / "state.pt"))
    assert found["base_optimizer_state"]["state"][0]["exp_avg"].tolist() == [0, 1, 2, 3]
    assert (found["loss_scaler"].cur_scale, found["zero_stage"]) == (2.0, ZeroStageEnum.gradients)
    assert found["param_slice_mappings"] == [{"w": fragment_address(4, 8)}]


def test_the_process_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with weights_only(ComputeSpec()):
        assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
