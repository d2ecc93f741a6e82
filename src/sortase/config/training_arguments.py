"""What becomes of every field of ``transformers.TrainingArguments``, of the installed version and of older ones.

*Honoured*: passed on as it is, or turned into the setting of ours that means the same. *No effect*: accepted, and one
line of the training says why it changes nothing. *Refused*: accepting it would silently train something else.

Facts are those of ``training_args.py`` of transformers 4.0 to 5.23. In reasons ``{run.seed}`` names a setting as the
user writes it: as in run.yaml, or as an argument in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .argument_values import (
    ANYTHING,
    NAMES,
    SETTINGS,
    TEXT,
    TRUTH,
    Values,
    choice,
    either,
    number,
    optional,
    steps,
    whole,
)

Verdict = Literal["honoured", "no effect", "refused"]

STRATEGIES = ("no", "steps", "epoch")
SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"),
    *("reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy"),
)
OPTIMIZERS = (
    *("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "sgd", "adagrad"),
    *("adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_bnb_8bit", "adamw_8bit", "stable_adamw"),
    *("ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit"),
    *("rmsprop_bnb_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
    *("paged_lion_32bit", "paged_lion_8bit", "galore_adamw", "galore_adamw_8bit", "galore_adafactor"),
    *("galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "lomo", "adalomo"),
    *("grokadamw", "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw"),
    "apollo_adamw_layerwise",
)
OLDER_OPTIMIZERS = {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"}


@dataclass(frozen=True)
class Argument:
    """``default`` and ``fine`` are values that say nothing here; ``unless`` says why a value is refused after all, such
    as those of ``refuses``.

    ``setting``: ours that it is turned into. ``older``: the installed version does not have it.
    """

    name: str
    verdict: Verdict
    takes: Values
    reason: str = ""
    default: Any = None
    fine: tuple[Any, ...] = ()
    setting: str | None = None
    unless: Callable[[Any], str | None] | None = None
    refuses: tuple[Any, ...] = ()
    older: bool = False

    def is_silent(self, value: Any) -> bool:
        """Whether the value asks for nothing that needs a word."""
        if value is None or (value is False and self.default is not True):
            return True
        return any(type(value) is type(same) and value == same for same in (self.default, *self.fine))


def _passed(name: str, takes: Values, **more: Any) -> Argument:
    return Argument(name, "honoured", takes, **more)


def _becomes(setting: str, name: str, takes: Values, reason: str = "", **more: Any) -> Argument:
    return Argument(name, "honoured", takes, reason, setting=setting, **more)


def _idle(reason: str, name: str, takes: Values, default: Any = None, *fine: Any, **more: Any) -> Argument:
    return Argument(name, "no effect", takes, reason, default, fine, **more)


def _refused(reason: str, name: str, takes: Values, default: Any = None, *fine: Any, **more: Any) -> Argument:
    return Argument(name, "refused", takes, reason, default, fine, **more)


def _order(value: Any) -> str | None:
    return "rows are always shuffled, anew in each epoch" if value == "sequential" else None


def _batches(value: Any) -> str | None:
    """Settings of Accelerate that would make the global batch another one."""
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    if given.get("split_batches"):
        return "split_batches makes the batch another one; give {train.global_batch_size}"
    if (given.get("gradient_accumulation_kwargs") or {}).get("num_steps", 1) != 1:
        return "num_steps makes the batch another one; give {train.gradient_accumulation_steps}"
    return None


def _whole_batches(value: Any) -> str | None:
    return "it makes the batch another one; give {train.global_batch_size}" if value else None


def _another_training(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return (
        "an interrupted training continues by itself from its newest intact checkpoint; to start from the weights of "
        "that folder, give it as {model.checkpoint}"
    )


PLAN = "the batch plan groups sequences by length"
GATHERED = "batches are gathered from memory-mapped data in the training process"
STREAMED = "metrics are computed from streamed predictions"
FOLDER = "files go to {run.output}"
STAGE = "the function or command that is called decides it"
HUB = "models are not uploaded"
SECRET = "credentials belong into the environment (HF_TOKEN), because settings are stored with the run"
DIVIDED = "training is divided by DDP, or by DeepSpeed with {compute.deepspeed}"
ALWAYS_CONTINUES = "a training continues by itself, at the exact step of its batch plan"
LOGS = "the run keeps a log of its own"
AUTOCAST = "16 bits are PyTorch's autocast; see {compute.precision}"
GROUPS = "Ray makes the process groups"
TRACKIO = "trackio is not among the trackers"
NOT_HERE = "training runs on CUDA or on CPUs"
CHECKPOINTS = "checkpoints lie once in the run's storage, with all that is needed to continue"

INSTALLED = (
    _idle(FOLDER, "output_dir", TEXT),
    _passed("per_device_train_batch_size", whole(1)),
    _passed("num_train_epochs", number(above=0)),
    _passed("max_steps", whole(-1)),
    _passed("learning_rate", number(0)),
    _passed("lr_scheduler_type", choice(*SCHEDULERS)),
    _passed("lr_scheduler_kwargs", optional(SETTINGS)),
    _passed("warmup_steps", number(0)),
    _passed("optim", choice(*OPTIMIZERS, *OLDER_OPTIMIZERS)),
    _passed("optim_args", optional(TEXT)),
    _passed("weight_decay", number(0)),
    _passed("adam_beta1", number(0, below=1)),
    _passed("adam_beta2", number(0, below=1)),
    _passed("adam_epsilon", number(0)),
    _passed("optim_target_modules", optional(NAMES)),
    _passed("gradient_accumulation_steps", whole(1)),
    _idle("the loss is always that of the whole global batch", "average_tokens_across_devices", TRUTH, True, False),
    _passed("max_grad_norm", optional(number(0))),
    _passed("label_smoothing_factor", number(0, below=1)),
    _becomes("compute.precision", "bf16", TRUTH, "bf16"),
    _becomes("compute.precision", "fp16", TRUTH, "fp16"),
    _becomes("compute.precision", "bf16_full_eval", TRUTH, "bf16, in training too"),
    _becomes("compute.precision", "fp16_full_eval", TRUTH, "fp16, in training too"),
    _passed("tf32", optional(TRUTH)),
    _passed("activation_checkpointing", optional(TRUTH)),
    _passed("activation_checkpointing_kwargs", optional(SETTINGS)),
    _becomes("train.activation_checkpointing", "gradient_checkpointing", TRUTH),
    _becomes("train.activation_checkpointing_kwargs", "gradient_checkpointing_kwargs", SETTINGS),
    _passed("torch_compile", TRUTH),
    _passed("torch_compile_backend", optional(TEXT)),
    _passed("torch_compile_mode", optional(TEXT)),
    _passed("use_liger_kernel", TRUTH),
    _passed("liger_kernel_config", optional(SETTINGS)),
    _idle("classifiers do not decode", "use_cache", TRUTH, False),
    _passed("neftune_noise_alpha", optional(number(0))),
    _idle("{train.max_tokens_per_device} bounds the memory", "torch_empty_cache_steps", whole(1)),
    _idle("{train.max_tokens_per_device} bounds the memory and keeps the batch", "auto_find_batch_size", TRUTH, False),
    _passed("logging_strategy", choice(*STRATEGIES)),
    _passed("logging_steps", steps()),
    _passed("logging_first_step", TRUTH),
    _idle(LOGS, "log_on_each_node", TRUTH, True),
    _idle("a loss that is not finite ends the training", "logging_nan_inf_filter", TRUTH, True),
    _passed("include_num_input_tokens_seen", either(TRUTH, choice("all", "non_padding", "no"))),
    _idle(LOGS, "log_level", TEXT, "passive"),
    _idle(LOGS, "log_level_replica", TEXT, "warning", "passive"),
    _passed("disable_tqdm", optional(TRUTH), reason="no progress bar"),
    _becomes("tracking.to", "report_to", NAMES, default="none", fine=("all", ["none"], ["all"], [])),
    _idle("the run is called {run.name}", "run_name", TEXT),
    _idle(TRACKIO, "project", TEXT, "huggingface"),
    _idle(TRACKIO, "trackio_space_id", TEXT, None, "trackio"),
    _idle(TRACKIO, "trackio_bucket_id", TEXT),
    _idle(TRACKIO, "trackio_static_space_id", TEXT),
    _passed("eval_strategy", choice(*STRATEGIES)),
    _passed("eval_steps", optional(steps())),
    _passed("eval_delay", number(0)),
    _becomes("evaluate.batch_size", "per_device_eval_batch_size", whole(1), "also on the validation side"),
    _idle("metrics are always computed", "prediction_loss_only", TRUTH, False),
    _passed("eval_on_start", TRUTH),
    _idle(STREAMED, "eval_do_concat_batches", TRUTH, True),
    _idle(STREAMED, "eval_use_gather_object", TRUTH, False),
    _idle(STREAMED, "eval_accumulation_steps", whole(1)),
    _idle(STREAMED, "include_for_metrics", NAMES, None, []),
    _idle(STREAMED, "batch_eval_metrics", TRUTH, False),
    _idle(CHECKPOINTS, "save_only_model", TRUTH, False),
    _passed("save_strategy", choice(*STRATEGIES, "best")),
    _passed("save_steps", steps()),
    _idle(CHECKPOINTS, "save_on_each_node", TRUTH, False),
    _passed("save_total_limit", optional(whole(0))),
    _idle("a training that is stopped always leaves a checkpoint", "enable_jit_checkpoint", TRUTH, False),
    _idle(f"{HUB}; `hf upload` takes the saved folder there", "push_to_hub", TRUTH, False),
    _refused(SECRET, "hub_token", TEXT, None, "<HUB_TOKEN>"),
    _idle(HUB, "hub_private_repo", TRUTH, None, False),
    _idle(HUB, "hub_model_id", TEXT),
    _idle(HUB, "hub_strategy", TEXT, "every_save"),
    _idle(HUB, "hub_always_push", TRUTH, False),
    _idle(HUB, "hub_revision", TEXT),
    _becomes("train.keep_best", "load_best_model_at_end", TRUTH, "the best by {train.metric}, not by the loss"),
    _becomes("train.metric", "metric_for_best_model", TEXT, "with or without eval_; f1 is macro_f1"),
    _passed("greater_is_better", TRUTH, reason="it must agree with {train.metric}"),
    _idle(ALWAYS_CONTINUES, "ignore_data_skip", TRUTH, False),
    _idle(ALWAYS_CONTINUES, "restore_callback_states_from_checkpoint", TRUTH, False),
    _passed("full_determinism", TRUTH),
    _becomes("run.seed", "seed", whole(0, 2**32 - 1)),
    _becomes("run.seed", "data_seed", whole(0, 2**32 - 1)),
    _becomes("compute.device", "use_cpu", TRUTH, "cpu"),
    _idle(PLAN, "accelerator_config", ANYTHING, unless=_batches, refuses=({"split_batches": True},)),
    _idle(DIVIDED, "parallelism_config", ANYTHING),
    _idle("every row counts in every epoch", "dataloader_drop_last", TRUTH, False),
    _idle(GATHERED, "dataloader_num_workers", whole(0), 0),
    _idle(GATHERED, "dataloader_pin_memory", TRUTH, True),
    _idle(GATHERED, "dataloader_persistent_workers", TRUTH, False),
    _idle(GATHERED, "dataloader_prefetch_factor", whole(1)),
    _idle(GATHERED, "dataloader_multiprocessing_context", TEXT),
    _idle(GATHERED, "dataloader_in_order", TRUTH, True),
    _idle("only tokens and labels reach the model", "remove_unused_columns", TRUTH, True),
    _idle("labels lie in the column label or labels", "label_names", NAMES),
    _idle(
        PLAN,
        "train_sampling_strategy",
        choice("random", "sequential", "group_by_length", "batch_rebalance"),
        "random",
        unless=_order,
        refuses=("sequential",),
    ),
    _idle("the batch plan reads lengths from the data", "length_column_name", TEXT, "length"),
    _passed("ddp_find_unused_parameters", optional(TRUTH)),
    _passed("ddp_bucket_cap_mb", optional(whole(1))),
    _passed("ddp_broadcast_buffers", optional(TRUTH)),
    _idle("the number of micro-batches differs from step to step", "ddp_static_graph", TRUTH),
    _idle(GROUPS, "ddp_backend", TEXT),
    _idle(GROUPS, "ddp_timeout", whole(1), 1800),
    _idle(DIVIDED, "fsdp", either(NAMES, TRUTH), None, "", []),
    _idle(DIVIDED, "fsdp_config", SETTINGS, None, {}),
    _becomes("compute.deepspeed", "deepspeed", SETTINGS),
    _idle("a loss that is not finite ends the training", "debug", NAMES, "", []),
    _idle("run.json tells of time, the preflight of memory", "skip_memory_metrics", TRUTH, True),
    _idle(STAGE, "do_train", TRUTH, False, True),
    _idle(STAGE, "do_eval", TRUTH, False, True),
    _idle(STAGE, "do_predict", TRUTH, False, True),
    _idle(
        ALWAYS_CONTINUES,
        "resume_from_checkpoint",
        either(TRUTH, TEXT),
        unless=_another_training,
        refuses=("path/to/checkpoint-500",),
    ),
    _idle(GROUPS, "local_rank", whole(-1), -1),
)

OLDER = (
    _idle("existing results are replaced with {replace} alone", "overwrite_output_dir", TRUTH, False, older=True),
    _becomes("train.eval_strategy", "evaluation_strategy", choice(*STRATEGIES), older=True),
    _becomes("train.per_device_train_batch_size", "per_gpu_train_batch_size", whole(1), older=True),
    _becomes("evaluate.batch_size", "per_gpu_eval_batch_size", whole(1), older=True),
    _idle(FOLDER, "logging_dir", TEXT, older=True),
    _becomes("compute.device", "no_cuda", TRUTH, "cpu", older=True),
    _idle(AUTOCAST, "fp16_opt_level", TEXT, "O1", older=True),
    _idle(AUTOCAST, "fp16_backend", TEXT, "auto", "amp", older=True),
    _idle(AUTOCAST, "half_precision_backend", TEXT, "auto", "amp", "cuda_amp", older=True),
    _idle(NOT_HERE, "tpu_num_cores", whole(1), older=True),
    _idle(NOT_HERE, "tpu_metrics_debug", TRUTH, False, older=True),
    _idle(NOT_HERE, "use_mps_device", TRUTH, False, older=True),
    _idle(NOT_HERE, "xpu_backend", TEXT, older=True),
    _idle(NOT_HERE, "use_ipex", TRUTH, False, older=True),
    _idle(DIVIDED, "mp_parameters", TEXT, "", older=True),
    _idle(DIVIDED, "model_parallel", TRUTH, False, older=True),
    _idle(DIVIDED, "sharded_ddp", either(NAMES, TRUTH), "", [], older=True),
    _idle(DIVIDED, "fsdp_min_num_params", whole(0), 0, older=True),
    _idle(DIVIDED, "fsdp_transformer_layer_cls_to_wrap", TEXT, older=True),
    _idle("classifiers have no past", "past_index", whole(-1), -1, older=True),
    _becomes("train.warmup_steps", "warmup_ratio", number(0), "a share of all steps", older=True),
    _becomes("train.optim", "adafactor", TRUTH, "adafactor", older=True),
    _becomes("train.torch_compile_backend", "torchdynamo", TEXT, older=True),
    _idle(PLAN, "group_by_length", TRUTH, False, older=True),
    _idle(PLAN, "dispatch_batches", TRUTH, older=True),
    _idle(PLAN, "split_batches", TRUTH, older=True, unless=_whole_batches, refuses=(True,)),
    _idle(STREAMED, "use_legacy_prediction_loop", TRUTH, False, older=True),
    _idle(STREAMED, "include_inputs_for_metrics", TRUTH, False, older=True),
    _idle(STREAMED, "jit_mode_eval", TRUTH, False, older=True),
    _idle("events/ always tells useful tokens a second", "include_tokens_per_second", TRUTH, False, older=True),
    _idle("models are always saved as safetensors", "save_safetensors", TRUTH, True, older=True),
    _idle("trials are compared by their best evaluation", "ray_scope", TEXT, "last", older=True),
    _idle(HUB, "push_to_hub_model_id", TEXT, older=True),
    _idle(HUB, "push_to_hub_organization", TEXT, older=True),
    _refused(SECRET, "push_to_hub_token", TEXT, None, "<PUSH_TO_HUB_TOKEN>", older=True),
)

TABLE: dict[str, Argument] = {argument.name: argument for argument in (*INSTALLED, *OLDER)}
