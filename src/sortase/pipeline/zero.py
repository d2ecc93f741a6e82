"""DeepSpeed's configuration from ``compute.deepspeed``: a ZeRO stage, a file, or settings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from .. import storage
from ..config.compute import ComputeSpec
from ..errors import ConfigError, MissingExtraError

OWNED = {
    "gradient_accumulation_steps": "a global batch is divided by train.per_device_train_batch_size",
    "train_batch_size": "it is train.global_batch_size",
    "fp16": "it is compute.precision: bf16 or fp32",
    "bf16": "it is compute.precision: bf16 or fp32",
}


def zero_settings(compute: ComputeSpec) -> dict[str, Any] | None:
    """Settings for ``TrainingArguments.deepspeed``, or None without DeepSpeed.

    The model is saved whole also where its parameters are divided (ZeRO-3).
    """
    if compute.deepspeed is None:
        return None
    given = _given(compute.deepspeed)
    for name, reason in OWNED.items():
        if name in given:
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
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
    }


def zero_stage(compute: ComputeSpec) -> int:
    """0 without DeepSpeed."""
    settings = zero_settings(compute)
    return int(settings["zero_optimization"]["stage"]) if settings else 0


def _given(setting: Any) -> dict[str, Any]:
    if isinstance(setting, int):
        return {"zero_optimization": {"stage": setting}}
    found = storage.read_json(setting) if isinstance(setting, str) else dict(setting)
    if not isinstance(found, dict):
        raise ConfigError(f"{setting} must hold a DeepSpeed configuration (a JSON object)")
    return found


def check_deepspeed(compute: ComputeSpec) -> None:
    """DeepSpeed must be installed where it is asked for."""
    if compute.deepspeed is None:
        return
    zero_settings(compute)
    if find_spec("deepspeed") is None:
        raise MissingExtraError("compute.deepspeed needs the extra 'deepspeed': pip install 'sortase[deepspeed]'")
