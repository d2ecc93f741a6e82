"""Model folders are data from outside: what in one would load code, fetch something or leave the folder has no effect.

``transformers`` fetches and runs a compiled kernel where a configuration names one for its attention or its experts,
follows ``auto_map`` to Python files, unpickles a shard that is named ``.bin``, and takes the weights of an adapter from
wherever this says they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import InputError
from .hub import asked_for
from .weights import INDEX, shards

ADAPTER = "adapter_config.json"
_IMPLEMENTATIONS = ("_attn_implementation", "_experts_implementation")
_CODE = ("auto_map", "custom_pipelines", "use_kernels", "kernel_config")


def without_code(config: Any, checkpoint: str | None, chosen: Mapping[str, Any] | None = None) -> Any:
    """The configuration, and those inside it, without what would load code: the library's own choice is left, and what
    the user has ``chosen`` by name.

    Raises InputError for quantised weights, which are not trained and whose formats fetch kernels of their own.
    """
    for part in _parts(config):
        if getattr(part, "quantization_config", None) is not None:
            raise InputError(
                f"the weights of {checkpoint} are quantised (quantization_config in config.json); save the model "
                "again after model.dequantize()"
            )
        for name in _IMPLEMENTATIONS:
            setattr(part, f"{name}_internal", (chosen or {}).get(name))
        for name in _CODE:
            if name in vars(part):
                delattr(part, name)
    return config


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            yield from _parts(value)


def check_folder(path: str, checkpoint: str) -> None:
    """InputError where a local folder holds an adapter instead of a model, or where the index of a model of the hub
    names weights outside of it or pickled ones."""
    if Path(path).is_dir():
        if (Path(path) / ADAPTER).exists():
            raise InputError(
                f"{checkpoint} holds {ADAPTER}, an adapter of another model; save the model with the adapter merged "
                "into it (merge_and_unload), or remove the file"
            )
    elif (found := _of_hub(path)) is not None:
        shards(storage.read_json(found), f"{checkpoint}/{INDEX}")


def _of_hub(name: str) -> str | None:
    from transformers.utils.hub import cached_file

    found = asked_for(
        name,
        lambda: cached_file(
            name, INDEX, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        ),
    )
    return None if found is None else str(found)
