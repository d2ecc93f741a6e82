"""Runs on a Ray cluster that is there, through its Jobs API."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..deadlines import UnansweredError, limit, within
from ..errors import ConfigError, InfrastructureError, MissingExtraError
from ..storage.scratch import Scratch
from .state import State, failed
from .submission import Submission, busy


@contextmanager
def answered(address: str) -> Iterator[None]:
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise ConfigError(
            f"Ray at {address} refuses the token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH)"
        ) from error
    except (ConnectionError, UnansweredError, requests.RequestException) as error:
        raise InfrastructureError(f"Ray at {address} does not answer: {error}") from error
    except RuntimeError as error:  # any other answer than 200
        raise InfrastructureError(f"Ray at {address}: {error}") from error


@dataclass
class RayJobs:
    """``address``: of the dashboard, http://host:8265. The token is Ray's own, from the environment."""

    address: str
    _shown: int = field(default=0, init=False)

    @cached_property
    def _client(self) -> Any:
        try:
            from ray.job_submission import JobSubmissionClient

            with answered(self.address):
                return within(limit("jobs-call"), lambda: JobSubmissionClient(self.address))
        except ImportError as error:
            raise MissingExtraError("Ray's Jobs API needs the extra 'submit': pip install 'sortase[submit]'") from error

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        client = self._client
        with answered(self.address):
            return within(limit("jobs-call"), lambda: getattr(client, what)(*arguments, **options))

    def identity(self, submission: Submission) -> str:
        return f"sortase-{submission.name}-{submission.digest}"

    def submit(self, submission: Submission) -> bool:
        """False where the job is there already and is attached to."""
        name = self.identity(submission)
        jobs = {job.submission_id: job for job in self._ask("list_jobs") if job.submission_id}
        if name in jobs:
            return False
        for other, job in jobs.items():
            same = other.rpartition("-")[0] == name.rpartition("-")[0]
            if same and not _state_of(job).is_over:
                raise busy(f"job {other}")
        words = ["sortase", submission.command, "--config", "run.yaml", *submission.arguments]
        with Scratch("submit") as folder:
            (folder / "run.yaml").write_text(submission.run_yaml)
            environment = {
                "SORTASE_LOGS": "1",
                "SORTASE_PROGRESS": "0",
                "SORTASE_SUBMISSION": name,
                "RAY_JOB_STOP_WAIT_TIME_S": "60",
            }
            try:
                self._ask(
                    "submit_job",
                    entrypoint=shlex.join(words),
                    submission_id=name,
                    runtime_env={"working_dir": str(folder), "env_vars": environment},
                    metadata={"run": submission.config.run.name, "folder": submission.folder.url},
                )
            except InfrastructureError:
                if self._job(name) is None:
                    raise
                return False  # somebody else was quicker with the same
        return True

    def _job(self, name: str) -> Any | None:
        return next((job for job in self._ask("list_jobs") if job.submission_id == name), None)

    def state(self, name: str) -> State:
        job = self._job(name)
        return State("absent", f"{self.address} has no job {name}") if job is None else _state_of(job)

    def new_log(self, name: str) -> str:
        """What the driver has written beyond the last call."""
        if self._job(name) is None:
            return ""
        text = self._ask("get_job_logs", name)
        new, self._shown = text[self._shown :], max(self._shown, len(text))
        return str(new)

    def delete(self, name: str) -> None:
        """SIGTERM for the driver, which keeps a checkpoint."""
        self._ask("stop_job", name)


def _state_of(job: Any) -> State:
    status = str(getattr(job.status, "value", job.status))
    words = " ".join(str(job.message or "").split())
    if status == "SUCCEEDED":
        return State("succeeded", "succeeded", 0)
    if status == "STOPPED":
        return State("stopped", "stopped", 5)
    if status == "FAILED":
        return failed(f"failed: {words}", job.driver_exit_code)
    return State("running", "running") if status == "RUNNING" else State("waiting", words or status.lower())
