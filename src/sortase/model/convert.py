"""Checkpoints with pickled weights made into ones with safetensors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import ExistingOutputError, InputError, UnsafePickleError
from ..storage.members import member
from ..storage.scratch import Scratch
from .weights import files, is_pickled, parts

READER = Path(__file__).with_name("read_pickled_weights.py")
COPIED = (".json", ".txt", ".model", ".jinja")  # configuration and tokenizer
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "OMP_NUM_THREADS")


def convert(source: str, output: str) -> str:
    """Write the model in ``source`` to ``output`` with safetensors; its configuration and tokenizer are copied.

    The pickle is read in a process of its own by torch's weights-only reader. Both may be folders or URLs.

    Returns a line about what was written.

    Raises:
        UnsafePickleError: the pickle asks for more than weights.
        InputError: there are no pickled weights, or they are damaged.
        ExistingOutputError: ``output`` exists.
    """
    if not storage.exists(source):
        raise storage.missing(source)
    if storage.exists(output):
        raise ExistingOutputError(f"{output} exists already; give another folder")
    folder = Path(storage.fetch(source))
    names = _pickles(folder, source)
    with Scratch("convert") as scratch:
        made = scratch / "model"
        made.mkdir()
        told = _read(folder, made, names, source)
        for path in folder.iterdir():
            if path.suffix in COPIED and path.name != PICKLED_INDEX:
                shutil.copy(path, made / path.name)
        storage.upload(made, output)
    return f"{output}: {told['tensors']:,} tensors with {told['parameters']:,} parameters as safetensors"


def _pickles(folder: Path, source: str) -> list[str]:
    """Names of the files with pickled weights."""
    if not folder.is_dir():
        raise InputError(f"{source} is a file; give the folder of a saved model")
    if files(folder):
        raise InputError(f"{source} holds safetensors already; there is nothing to convert")
    if not (folder / "config.json").exists():
        raise InputError(f"{source} holds no config.json, so no saved model")
    index = folder / PICKLED_INDEX
    names = parts(storage.read_json(str(index)), str(index), folder) if index.exists() else [PICKLED]
    for name in names:
        member(str(folder), name, source)
        if not is_pickled(name) or not (folder / name).exists():
            raise InputError(f"{source} does not hold {name}, which its weights should lie in")
    return names


def _read(folder: Path, target: Path, names: list[str], source: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", str(READER), str(folder.resolve()), str(target), *names],
        capture_output=True,
        text=True,
        errors="replace",
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        cwd=target,
    )
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if "UnpicklingError" in done.stderr:
        asks = re.search(r"GLOBAL ([\w.]+)", done.stderr)
        what = f"ask for {asks[1]}" if asks else "hold more than plain tensors"
        raise UnsafePickleError(f"the weights in {source} {what}; only tensors by name are read")
    lines = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    why = lines[-1].removeprefix("ContentError: ") if lines else f"the reading process ended with {done.returncode}"
    raise InputError(f"the weights in {source} cannot be read: {why}")
