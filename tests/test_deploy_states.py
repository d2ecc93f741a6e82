"""How submitted runs are: states of RayJobs and jobs, troubles of pods, and waiting for the end. Clusters are faked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sortase.deploy import pods, ray_jobs
from sortase.deploy.follow import SILENCE, Follower
from sortase.deploy.rayjob import state_of
from sortase.deploy.state import State
from sortase.errors import InfrastructureError


def rayjob(deployment: str = "", job: str = "", message: str = "", reason: str = "", **metadata: Any) -> dict[str, Any]:
    status = {"jobDeploymentStatus": deployment, "jobStatus": job, "message": message, "reason": reason}
    return {"metadata": {"name": "x", **metadata}, "status": status}


def told(code: int) -> str:
    return f"Job entrypoint command failed with exit code {code}, last available logs"


@pytest.mark.parametrize(
    ("job", "phase", "code"),
    [
        (rayjob(), "waiting", None),
        ({"metadata": {"name": "x"}}, "waiting", None),
        (rayjob("Initializing"), "waiting", None),
        (rayjob("Suspended"), "waiting", None),
        (rayjob("Retrying", "FAILED", told(3)), "waiting", None),
        (rayjob("Running", "RUNNING"), "running", None),
        (rayjob("Running", "PENDING"), "running", None),
        (rayjob("Complete", "SUCCEEDED"), "succeeded", 0),
        (rayjob("Complete", "STOPPED"), "stopped", 5),
        (rayjob("Failed", "FAILED", told(1), "AppFailed"), "failed", 1),
        (rayjob("Failed", "FAILED", told(2), "AppFailed"), "failed", 2),
        (rayjob("Failed", "FAILED", told(3), "AppFailed"), "failed", 3),
        (rayjob("Failed", "FAILED", told(4), "AppFailed"), "failed", 4),
        (rayjob("Failed", "FAILED", told(5), "AppFailed"), "stopped", 5),
        (rayjob("Failed", "FAILED", told(6), "AppFailed"), "failed", 6),
        (rayjob("Failed", "FAILED", told(-9), "AppFailed"), "failed", 3),
        (rayjob("Failed", "FAILED", told(77), "AppFailed"), "failed", 1),
        (rayjob("Failed", "FAILED", "no words", "AppFailed"), "failed", 1),
        (rayjob("Failed", "RUNNING", "", "DeadlineExceeded"), "failed", 4),
        (rayjob("Failed", "", "", "PreRunningDeadlineExceeded"), "failed", 3),
        (rayjob("Failed", "", "", "SubmissionFailed"), "failed", 3),
        (rayjob("ValidationFailed", "", "bad labels", "ValidationFailed"), "failed", 2),
        (rayjob("Running", "RUNNING", deletionTimestamp="2026-01-01T00:00:00Z"), "waiting", None),
    ],
)
def test_states_of_rayjobs(job: dict[str, Any], phase: str, code: int | None) -> None:
    state = state_of(job)
    assert (state.phase, state.exit_code) == (phase, code)
    assert state.words


def pod(name: str = "x-head", phase: str = "Running", reason: str | None = None, **more: Any) -> SimpleNamespace:
    defaults = {"conditions": [], "init_container_statuses": [], "container_statuses": [], "message": "words"}
    metadata = SimpleNamespace(name=name, labels={"ray.io/group": "train"}, deletion_timestamp=None)
    return SimpleNamespace(
        metadata=metadata, status=SimpleNamespace(phase=phase, reason=reason, **{**defaults, **more})
    )


def container(waiting: str | None = None, ended: str | None = None, message: str | None = None) -> SimpleNamespace:
    state = SimpleNamespace(
        waiting=waiting and SimpleNamespace(reason=waiting, message=message),
        terminated=ended and SimpleNamespace(reason=ended),
    )
    return SimpleNamespace(state=state, last_state=None, image="registry/x:1")


UNSCHEDULED = SimpleNamespace(type="PodScheduled", status="False", message="0/1 nodes: 1 Insufficient nvidia.com/gpu")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(phase="Pending", conditions=[UNSCHEDULED]), "Insufficient nvidia.com/gpu"),
        (pod(container_statuses=[container("ImagePullBackOff")]), "the image cannot be pulled: registry/x:1"),
        (pod(init_container_statuses=[container("CreateContainerConfigError")]), "secret or config map"),
        (pod(container_statuses=[container(ended="OOMKilled")]), "memory than its limit"),
        (pod(phase="Failed", reason="Evicted"), "evicted by its node"),
    ],
)
def test_troubles_of_pods_are_told_in_words(found: Any, words: str) -> None:
    (trouble,) = pods.troubles([found], [], ["x"])
    assert words in trouble


def test_many_pods_with_one_trouble_are_one_line() -> None:
    again = 'Back-off pulling image "x": ErrImagePull: not found'
    told = ["not found", again, "not found"]
    found = [
        pod(f"x-{place}", container_statuses=[container("ErrImagePull", message=words)])
        for place, words in enumerate(told)
    ]
    assert pods.troubles(found, [], ["x"]) == ("pod x-0 and 2 others: the image cannot be pulled: not found",)


def test_events_tell_what_pods_cannot() -> None:
    def event(name: str, reason: str, kind: str = "Warning") -> SimpleNamespace:
        at = SimpleNamespace(name=name)
        return SimpleNamespace(
            involved_object=at, reason=reason, message="exceeded quota", type=kind, last_timestamp="1", event_time=None
        )

    events = [event("x-1", "FailedToCreateHeadPod"), event("other", "FailedToCreateHeadPod"), event("x", "Pulled")]
    assert pods.troubles([], events, ["x"]) == ("x-1: FailedToCreateHeadPod: exceeded quota",)
    assert pods.troubles([pod()], [event("x-1", "Unhealthy")], ["x"]) == ()


class Fake:
    """A cluster that answers as told, one answer a look; an exception is raised."""

    def __init__(self, *answers: Any, logs: tuple[str, ...] = ()):
        self.answers, self.logs, self.deleted = list(answers), list(logs), False

    def state(self, name: str) -> State:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def new_log(self, name: str) -> str:
        return self.logs.pop(0) if self.logs else ""

    def delete(self, name: str) -> None:
        self.deleted = True


RUNNING, DONE = State("running", "running"), State("succeeded", "succeeded", 0)


STUCK = State("waiting", "waiting", troubles=("no room for 2 GPUs",))


def followed(fake: Fake, **options: Any) -> tuple[State | None, list[str], str]:
    said: list[str] = []
    shown: list[str] = []
    now = [0.0]
    follower = Follower(
        fake,
        "x",
        said.append,
        shown.append,
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
        **options,
    )
    return follower.end(), said, "".join(shown)


def test_a_wait_shows_the_log_once_and_outlives_lost_connections() -> None:
    lost = InfrastructureError("the cluster does not answer")
    fake = Fake(RUNNING, lost, lost, RUNNING, DONE, logs=("a\n", "b\n", "c\n"))
    state, said, shown = followed(fake)
    assert state == DONE
    assert shown == "a\nb\nc\n"
    assert said == ["running", str(lost), "running", "succeeded"]


def test_a_cluster_that_is_silent_for_long_is_given_up_and_the_run_left_alone() -> None:
    fake = Fake(RUNNING, InfrastructureError("no route"))
    with pytest.raises(InfrastructureError, match=f"no answer for {SILENCE:.0f} s.*no route"):
        followed(fake)
    assert not fake.deleted


def test_what_cannot_start_is_given_up_in_time_and_deleted() -> None:
    fake = Fake(STUCK)
    with pytest.raises(InfrastructureError, match="no room for 2 GPUs"):
        followed(fake, start_seconds=30)
    assert fake.deleted


def test_troubles_that_pass_do_not_end_a_run() -> None:
    fake = Fake(STUCK, STUCK, State("waiting", "waiting"), STUCK, STUCK, RUNNING, DONE)
    state, said, _ = followed(fake, start_seconds=5)
    assert state == DONE
    assert "no room for 2 GPUs" in said


def test_a_wait_ends_with_a_run_that_is_deleted_and_when_it_is_interrupted() -> None:
    assert followed(Fake(RUNNING, State("absent", "gone")))[0] == State("absent", "gone")
    assert followed(Fake(RUNNING), should_stop=lambda: True)[0] is None


def test_jobs_of_ray_have_states_too() -> None:
    def job(status: str, code: int | None = None) -> SimpleNamespace:
        return SimpleNamespace(status=SimpleNamespace(value=status), message=f"{status} words", driver_exit_code=code)

    codes = [ray_jobs._state_of(job(*given)).exit_code for given in (("SUCCEEDED",), ("STOPPED",), ("RUNNING",))]
    assert codes == [0, 5, None]
    assert ray_jobs._state_of(job("FAILED", 2)).exit_code == 2
    assert ray_jobs._state_of(job("FAILED")).exit_code == 1
