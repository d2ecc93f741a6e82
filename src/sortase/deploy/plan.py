"""What a submission would do and what stands in its way, found out without writing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .. import storage
from ..config.train import check_arguments
from ..errors import SortaseError
from ..pipeline.preflight import preflight
from ..pipeline.run import resolved
from ..pipeline.stages import STAGES
from .chart import Object
from .submission import Submission


@dataclass
class Plan:
    """Lines for a person, and the errors among the checks, first one first."""

    lines: list[str] = field(default_factory=list)
    errors: list[SortaseError] = field(default_factory=list)

    def check(self, what: str, work: Callable[[], Any]) -> Any:
        """Do a check; what it raises is a line of the plan."""
        try:
            result = work()
        except SortaseError as error:
            self.errors.append(error)
            self.lines.append(f"FAILED   {what}: {error}")
            return None
        self.lines.append(f"passed   {what}")
        return result


def plan_run(submission: Submission, plan: Plan, elsewhere: bool) -> None:
    """Stages, steps and paths of the run itself. ``elsewhere``: on a cluster, which has no paths of this machine."""
    config, folder = submission.config, submission.folder
    only = None if submission.command in ("run", "retrain") else submission.command
    plan.lines.append(f"run      {config.run.name}, attempt {submission.attempt}: {folder.url}")
    plan.check("training arguments of the installed version", lambda: check_arguments(config.train.arguments))
    plan.lines += [f"note     {note}" for note in config.train.notes]
    if elsewhere:
        plan.check("paths mean the same on the cluster", submission.require_reachable_paths)
        of_pods = [value for _, value in submission.paths if not storage.is_remote(value)]
        if of_pods:
            plan.lines.append(
                f"unknown  {', '.join(of_pods)}: paths of the pods; data and stages are not seen from here"
            )
            return

    def stages() -> None:
        for stage in STAGES:
            if stage.wanted(config) and only in (None, stage.name):
                mark = folder.mark(stage.name)
                state = f"finished {mark['finished'][:19]}, done again only where inputs differ" if mark else "to do"
                plan.lines.append(f"stage    {stage.name}: {state}")

    storage.configure(config.storage)
    with storage.impatiently():
        plan.check("the run folder can be read", stages)
        replace = "--replace" in submission.arguments
        told = plan.check(
            "data, columns, classes and model",
            lambda: preflight(resolved(config), folder, only=only, replace=replace, from_outside=True),
        )
    plan.lines += [line.replace("preflight:", "training", 1) for line in told or []]


def pods_of(objects: list[Object]) -> Iterator[str]:
    """A line a group: how many pods of which size."""
    (job,) = [each for each in objects if each["kind"] == "RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    yield f"RayJob   {job['metadata']['name']}: {job['spec']['entrypoint']}"
    yield f"pods     head: 1 x {_size(cluster['headGroupSpec'])}"
    for group in cluster["workerGroupSpecs"]:
        least, most = group["minReplicas"], group["maxReplicas"]
        count = str(group["replicas"]) if least == most else f"{group['replicas']} ({least} to {most})"
        yield f"pods     {group['groupName']}: {count} x {_size(group)}"
    (image,) = {container["image"] for container in cluster["headGroupSpec"]["template"]["spec"]["containers"]}
    yield f"image    {image}"


def _size(group: dict[str, Any]) -> str:
    resources = group["template"]["spec"]["containers"][0]["resources"]
    asked, limits = resources.get("requests", {}), resources.get("limits", {})
    words = [f"{name} {asked.get(name, '-')} (at most {limits.get(name, '-')})" for name in ("cpu", "memory")]
    words += [f"{name} {amount}" for name, amount in limits.items() if name not in ("cpu", "memory")]
    return ", ".join(words)
