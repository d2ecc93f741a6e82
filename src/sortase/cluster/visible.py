"""Paths that only this machine has are found out before anything starts: other nodes have files of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import storage
from ..deadlines import limit
from ..errors import ConfigError, InfrastructureError
from .connect import imported

TRIES = 3  # of a process that dies, as on a machine that is too busy to start it in time


def check_visible(paths: Mapping[str, str], output: str | None) -> list[str]:
    """Ask each other node that can work whether it sees these local paths, by their names, and what is written below
    ``output``. URLs are not asked for.

    Returns a line for each node that has not answered within the limit ``nodes-answer``: what it sees is not known.
    Raises ConfigError for the first path that a node does not see.
    """
    ray = imported()
    own = ray.get_runtime_context().get_node_id()
    nodes = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != own and node["Resources"].get("CPU", 0) > 0
    }
    local = {name: path for name, path in paths.items() if not storage.is_remote(path)}
    if not nodes or (not local and (output is None or storage.is_remote(output))):
        return []
    with _mark(output) as mark:
        sought = [*local.values(), *([mark] if mark else [])]
        answers = dict(_answers(nodes, sought))
        for node, missing in answers.items():
            address = nodes[node]
            if mark in missing:
                raise ConfigError(_words("the output folder", str(output), address))
            for name, path in local.items():
                if path in missing:
                    raise ConfigError(_words(name, path, address))
    return [
        f"cluster: node {nodes[node]} did not answer in {limit('nodes-answer'):g} s whether it sees "
        f"{', '.join([*local, *(['the output folder'] if mark else [])])}"
        for node in sorted(nodes.keys() - answers)
    ]


def _words(name: str, path: str, address: str) -> str:
    return (
        f"{name} {path} is on this machine only: node {address} of the cluster does not see it. Copy it to storage "
        "that all nodes reach (such as s3://bucket/folder), or to a file system that they share"
    )


@contextmanager
def _mark(output: str | None) -> Iterator[str | None]:
    """A file in the nearest folder above the output that is there, which a node sees that shares the folder."""
    if output is None or storage.is_remote(output):
        yield None
        return
    target = storage.local_path(output)
    above = next(folder for folder in (target, *target.parents) if folder.is_dir())
    mark = above / f".sortase-{uuid.uuid4().hex[:12]}"
    try:
        mark.touch()
    except OSError:  # what cannot be written to is refused elsewhere, in its own words
        yield None
        return
    try:
        yield str(mark)
    finally:
        mark.unlink(missing_ok=True)


def _answers(nodes: Mapping[str, str], sought: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The id of each node that answers, and what it lacks; one that goes meanwhile does not. ``nodes``: addresses."""
    ray = imported()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=TRIES)(missing_here)
    asked = {}
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        asked[ask.options(scheduling_strategy=strategy).remote(sought)] = node
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=limit("nodes-answer"))
    for answer in ready:
        try:
            yield asked[answer], ray.get(answer)
        except ray.exceptions.RayTaskError as error:  # it is there, and cannot look
            raise InfrastructureError(f"node {nodes[asked[answer]]} cannot look for paths: {error.cause}") from error
        except ray.exceptions.RayError:
            continue


def missing_here(paths: list[str]) -> list[str]:
    """Those that do not exist where this runs."""
    return [path for path in paths if not Path(path).exists()]
