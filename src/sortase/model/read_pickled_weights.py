"""A program by itself, for a process of its own: pickled weights in, safetensors out.

It is started without the caller's credentials and search paths, and reads with torch's weights-only unpickler, which
builds tensors and plain containers and calls nothing else. Usage: read_pickled_weights.py FOLDER NEW_FOLDER NAME...
"""

import json
import sys
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A part of a larger storage becomes a tensor by itself; whole ones stay, so that tied ones are seen as such."""
    covers = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if covers and tensor.is_contiguous() else tensor.clone(memory_format=torch.contiguous_format)


def main(folder: Path, target: Path, names: list[str]) -> None:
    weights: dict[str, torch.Tensor] = {}
    for name in names:
        loaded = torch.load(folder / name, map_location="cpu", weights_only=True)
        if not isinstance(loaded, dict):
            sys.exit(f"ContentError: {name} holds {type(loaded).__name__} instead of tensors by name")
        for key, value in loaded.items():
            if not isinstance(value, torch.Tensor):
                sys.exit(f"ContentError: {name} holds {type(value).__name__} under {key!r} instead of a tensor")
            if key in weights:
                sys.exit(f"ContentError: {key!r} is in two files, one of them {name}")
            weights[str(key)] = whole(value.detach())
    if not weights:
        sys.exit(f"ContentError: {', '.join(names)} hold no tensor")
    told = {"tensors": len(weights), "parameters": sum(value.numel() for value in weights.values())}
    save_torch_state_dict(weights, target)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
