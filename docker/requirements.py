"""Prints what pyproject.toml requires, with the extras that are named: dependencies are a layer of their own, which
changes of the code leave as it is."""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]


def requirements(extra: str) -> set[str]:
    found: set[str] = set()
    for line in PROJECT["optional-dependencies"][extra]:
        own = re.fullmatch(r"sortase\[(.*)\]", line)
        found |= set().union(*map(requirements, own[1].split(","))) if own else {line}
    return found


wanted = {*PROJECT["dependencies"], *(line for extra in sys.argv[1:] for line in requirements(extra))}
sys.stdout.write("".join(f"{line}\n" for line in sorted(wanted)))
