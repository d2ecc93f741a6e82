"""Writes docker/locks: every package, its version and the hashes of its files, for pip install --require-hashes.

    pip install uv && python docker/lock.py

Run it after a change of dependencies in pyproject.toml or of constraints.txt; a test tells when it is due. Versions are
those of constraints.txt. No address is written: hashes hold for whatever index has the files.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "docker" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAD = "# Made by docker/lock.py\n"
EXTRAS = ("anndata", "deepspeed", "tensorboard", "mlflow", "wandb")
# DeepSpeed compiles against torch, by a setup.py that imports these: they are there before it.
FOR_DEEPSPEED = ("torch", "setuptools", "wheel", "ninja", "py-cpuinfo", "numpy", "packaging", "psutil", "pydantic")
FOR_DEEPSPEED += ("msgpack", "einops", "hjson", "tqdm")


def extra(name: str) -> set[str]:
    """What pyproject.toml requires for an extra, other extras of ours written out."""
    found: set[str] = set()
    for line in PROJECT["project"]["optional-dependencies"][name]:
        own = re.fullmatch(r"sortase\[(.*)\]", line)
        found |= set().union(*map(extra, own[1].split(","))) if own else {line}
    return found


def wanted() -> dict[str, set[str]]:
    """Requirements by the lock's name."""
    base = set(PROJECT["project"]["dependencies"])
    return {
        "torch": set(FOR_DEEPSPEED),
        "deepspeed": {line for line in extra("deepspeed") if line.startswith("deepspeed")},
        "image": base.union(*map(extra, EXTRAS), FOR_DEEPSPEED, ["ray[default]"]),
        "build": set(PROJECT["build-system"]["requires"]),
        "submit": base | extra("submit"),
    }


def locked(requirements: set[str], alone: bool) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(sorted(requirements)))
        file.flush()
        command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
        plain = [
            *(["--no-deps"] if alone else []),
            "--no-header",
            "--no-annotate",
            "--no-emit-index-url",
            "--quiet",
            "--no-config",
        ]
        done = subprocess.run(
            [*command, *plain, "--constraint", str(ROOT / "constraints.txt"), file.name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return HEAD + done.stdout


if __name__ == "__main__":
    LOCKS.mkdir(exist_ok=True)
    for name, requirements in wanted().items():
        (LOCKS / f"{name}.txt").write_text(locked(requirements, alone=name == "deepspeed"))
        sys.stdout.write(f"docker/locks/{name}.txt\n")
