"""Holds an attempt at each of its writes: ``held_everywhere.py run|tune folder|s3|refusing|ignoring [WHERE ...]``.

``refusing`` is an S3 that does not know conditional writes and says so, ``ignoring`` one that writes all the same. The
later attempt is first one of another configuration, then one of the same. It prints a line of JSON for each play, as
holder.py does, and a table at the end. It takes about an hour, and is no part of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUCKET = "held"


def s3(kind: str, stack: ExitStack) -> str:
    """A bucket of a server in a process of its own."""
    command = [sys.executable, str(HERE / "chaos" / "s3_server.py"), BUCKET]
    server = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert server.stdin and server.stdout
    os.environ["AWS_ENDPOINT_URL"] = server.stdout.readline().strip()
    stack.callback(server.stdin.close)
    print(json.dumps(["conditional", [{"s3": "kept"}.get(kind, kind)], {}]), file=server.stdin, flush=True)
    assert server.stdout.readline() == "done\n"
    return f"s3://{BUCKET}"


def configured(folder: Path, root: str, search: bool) -> list[str]:
    """In a process of its own: this one is to fork."""
    words = "import sys, pathlib, held_jobs; print(*held_jobs.configs(pathlib.Path(sys.argv[1]), sys.argv[2], {}))"
    made = subprocess.run(
        [sys.executable, "-c", words.format(search), str(folder), root], check=True, capture_output=True, text=True
    )
    return made.stdout.split()


def plays(configs: list[str], where: list[str]) -> list[dict[str, Any]]:
    found = []
    command = [sys.executable, str(HERE / "holder.py"), *configs, *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as playing:
        assert playing.stdout
        for line in playing.stdout:
            print(line, end="", flush=True)
            found.append(json.loads(line))
    if playing.returncode:
        sys.exit(f"it ended with {playing.returncode} after {len(found)} plays")
    return found


def main(job: str, kind: str, *where: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "held", "AWS_SECRET_ACCESS_KEY": "held", "AWS_REGION": "us-east-1"}
    ways = {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]), "RAY_AUTH_MODE": "disabled"}
    os.environ |= {**keys, **ways, "HF_HUB_OFFLINE": "1", "SORTASE_PROGRESS": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="every-") as folder, ExitStack() as stack:
        os.environ["SORTASE_CACHE"] = f"{folder}/cache"
        for which in ("another", "the same"):
            place = Path(folder, which.replace(" ", "-"))
            place.mkdir()
            root = str(place) if kind == "folder" else f"{s3(kind, stack)}/{place.name}"
            first, later = configured(place, root, job == "tune")
            found = plays([first, later if which == "another" else first], list(where))
            ends = Counter("wrong" if each["wrong"] or each["unnoticed"] else "right" for each in found)
            held = Counter(f"held ended with {each['codes']['held']}" for each in found)
            noticed = sum(bool(each["noticed"]) for each in found)
            print(f"# {job}, {kind}, {which}: {len(found)} writes, {dict(ends)}, {dict(held)}, {noticed} noticed")


if __name__ == "__main__":
    main(*sys.argv[1:])
