"""DeepSpeed's configuration from ``compute.deepspeed``: a ZeRO stage, a file, or settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from .. import storage
from ..config.compute import ComputeSpec
from ..errors import ConfigError, InputError, MissingExtraError
from ..storage.pickles import UnpicklingError

_FORCED, _NEVER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # torch.load looks at these

OWNED = {
    "gradient_accumulation_steps": "a global batch is divided by train.per_device_train_batch_size",
    "train_batch_size": "it is train.global_batch_size",
}
HALF = ("bf16", "fp16")


def zero_settings(compute: ComputeSpec) -> dict[str, Any] | None:
    """Settings for ``TrainingArguments.deepspeed``, or None without DeepSpeed.

    The model is saved whole also where its parameters are divided (ZeRO-3).
    """
    if compute.deepspeed is None:
        return None
    given = _given(compute.deepspeed)
    for name, reason in OWNED.items():
        if given.pop(name, "auto") != "auto":
            raise ConfigError(f"compute.deepspeed cannot set {name}: {reason}")
    zero = {"stage3_gather_16bit_weights_on_model_save": True, **given.get("zero_optimization", {})}
    if zero.get("stage") not in (1, 2, 3):
        raise ConfigError(f"compute.deepspeed needs zero_optimization.stage 1, 2 or 3, got {zero.get('stage')!r}")
    return {
        "gradient_clipping": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        **given,
        "gradient_accumulation_steps": 1,
        **{name: _half(name, given, compute) for name in HALF},
        "zero_optimization": zero,
    }


def _half(name: str, given: dict[str, Any], compute: ComputeSpec) -> dict[str, Any]:
    """Settings of 16 bits (loss scaling, for fp16); whether they are on, compute.precision decides."""
    found = given.get(name, {})
    enabled = found.get("enabled", "auto") if isinstance(found, dict) else found
    if enabled not in ("auto", False) and compute.precision != name:
        raise ConfigError(
            f"compute.deepspeed has {name} on, and compute.precision is {compute.precision}; "
            f"set compute.precision: {name}"
        )
    return {**found, "enabled": "auto"} if isinstance(found, dict) else {"enabled": "auto"}


def zero_stage(compute: ComputeSpec) -> int:
    """0 without DeepSpeed."""
    settings = zero_settings(compute)
    return int(settings["zero_optimization"]["stage"]) if settings else 0


@contextmanager
def weights_only(compute: ComputeSpec) -> Iterator[None]:
    """Whatever reads a checkpoint in here builds tensors and plain values alone, also DeepSpeed's loader, which by
    itself executes what a file says.

    Raises InputError where a file asks for more.
    """
    import torch

    before = {name: os.environ.pop(name, None) for name in (_FORCED, _NEVER)}
    os.environ[_FORCED] = "1"
    try:
        with torch.serialization.safe_globals(_of_zero() if compute.deepspeed is not None else []):
            yield
    except UnpicklingError as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"a checkpoint of this run holds more than weights and is not read: {why}") from error
    finally:
        os.environ.pop(_FORCED)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _of_zero() -> list[Any]:
    """Classes of DeepSpeed that its checkpoints hold; none of them does anything when it is made."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def _given(setting: Any) -> dict[str, Any]:
    if isinstance(setting, int):
        return {"zero_optimization": {"stage": setting}}
    found = storage.read_json(setting) if isinstance(setting, str) else dict(setting)
    if not isinstance(found, dict):
        raise ConfigError(f"{setting} must hold a DeepSpeed configuration (a JSON object)")
    return found


def check_deepspeed(compute: ComputeSpec) -> None:
    """DeepSpeed must be installed where it is asked for, and fp16 is for GPUs there."""
    if compute.deepspeed is None:
        return
    zero_settings(compute)
    if compute.precision == "fp16":
        from ..model.device import has_gpu

        if not has_gpu(compute):
            raise ConfigError("DeepSpeed computes in fp16 on GPUs alone; give compute.precision bf16 or fp32")
    if find_spec("deepspeed") is None:
        raise MissingExtraError("compute.deepspeed needs the extra 'deepspeed': pip install 'sortase[deepspeed]'")
