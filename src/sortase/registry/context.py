"""Who does something to the registry, and from where: what CI tells in the environment, else user and host."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def context(who: str | None = None) -> dict[str, str]:
    """``who``, and with a CI's run ``where`` (its address) and the ``commit``."""
    env = os.environ
    if env.get("GITHUB_ACTIONS"):
        place = f"{env.get('GITHUB_SERVER_URL')}/{env.get('GITHUB_REPOSITORY')}/actions/runs/{env.get('GITHUB_RUN_ID')}"
        found = {"who": env.get("GITHUB_ACTOR"), "where": place, "commit": env.get("GITHUB_SHA")}
    elif env.get("GITLAB_CI"):
        found = {
            "who": env.get("GITLAB_USER_LOGIN"),
            "where": env.get("CI_JOB_URL"),
            "commit": env.get("CI_COMMIT_SHA"),
        }
    else:
        found = {"where": socket.gethostname()}
    named = who or env.get("SORTASE_WHO") or found.get("who") or _user()
    return {**{name: value for name, value in found.items() if value}, "who": named}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user has no name
        return f"user {os.getuid()}"
