"""Retraining by CI on a live cluster: the commands of the workflows in docs/ci, real cells, three generations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Cluster, until, values

from retrain_data import cell_settings, generation, tokenized_cells
from sortase import storage
from sortase.registry.models import Model
from sortase.registry.moves import history, table
from workflows import CI, SHELL, step

NAME = "cell-types"


@dataclass(frozen=True)
class Checkout:
    """A repository as CI checks it out, with the variables of its workflows."""

    folder: Path
    environment: dict[str, str]

    def start(self, workflow: str, name: str, **environment: str) -> subprocess.Popen[str]:
        script = step(CI / "github" / f"{workflow}.yml", name)["run"]
        return subprocess.Popen(
            [*SHELL, script],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def retrain(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, what happened, and what was said."""
        process = self.start("retrain", "Retrain")
        said, _ = process.communicate(timeout=900)
        return process.returncode, json.loads((self.folder / "retrain.json").read_text()), said


@pytest.fixture
def checkout(cluster: Cluster, bucket: str, tmp_path: Path) -> Checkout:
    place = tmp_path / "checkout"
    (place / "data").mkdir(parents=True)
    settings = cell_settings(
        bucket, run={"name": NAME, "output": f"{bucket}/runs"}, registry={"url": f"{bucket}/registry"}
    )
    del settings["tokenize"]
    settings["model"]["tokenizer"] = f"{bucket}/vocabulary.pkl"
    settings["compute"] = {"workers": 2, "device": "cpu"}
    given = values({})
    del given["run"]
    (place / "retrain.yaml").write_text(
        yaml.safe_dump({**settings, "data": {"dataset": f"{bucket}/data/first.dataset"}})
    )
    (place / "values.yaml").write_text(yaml.safe_dump(given))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    actor = {"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "ann", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7"}
    environment = {**os.environ, **actor, "PATH": path, "NAMESPACE": cluster.namespace, "SETTING": "", "ATTEMPT": ""}
    return Checkout(place, environment)


@pytest.fixture
def deliver(checkout: Checkout, bucket: str, tmp_path: Path) -> Callable[..., None]:
    """New data in the bucket, and the merge of their name."""
    data, vocabulary = tokenized_cells(tmp_path)
    storage.write_bytes(f"{bucket}/vocabulary.pkl", Path(vocabulary).read_bytes())

    def put(name: str, wells: str, **options: Any) -> None:
        generation(data, wells, **options).save_to_disk(str(tmp_path / name))
        storage.upload(tmp_path / name, f"{bucket}/data/{name}")
        (checkout.folder / "data" / "manifest.json").write_text(json.dumps({"dataset": f"{bucket}/data/{name}"}))

    return put


def test_generations_by_the_commands_of_the_workflows(
    checkout: Checkout, deliver: Callable[..., None], cluster: Cluster, bucket: str
) -> None:
    deliver("first.dataset", "12")
    code, first, said = checkout.retrain()
    assert (code, first["state"]) == (0, "promoted"), said + cluster.describe()
    assert "evaluate: done" in said
    code, again, said = checkout.retrain()
    assert (code, again["state"]) == (0, "nothing"), said

    deliver("second.dataset", "123456")
    jobs = len(cluster.rayjobs())
    killed = checkout.start("retrain", "Retrain")
    until(lambda: len(cluster.rayjobs()) > jobs or killed.poll() is not None, "the second job", 180, cluster.describe)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    code, second, said = checkout.retrain()
    assert (code, second["state"], second["champion"]) == (0, "promoted", first["version"]), said + cluster.describe()
    assert "attached to it" in said
    assert second["moved"]["context"] == {"who": "ann", "where": second["moved"]["context"]["where"]}
    assert second["moved"]["context"]["where"].endswith("o/r/actions/runs/7")
    assert "### Gate" in (checkout.folder / "retrain.md").read_text()

    deliver("sabotaged.dataset", "123456", shuffled=True)
    code, bad, said = checkout.retrain()
    assert (code, bad["state"]) == (6, "refused"), said + cluster.describe()
    assert "did not pass the gate: macro_f1" in bad["words"]

    model = Model(f"{bucket}/registry/{NAME}", NAME)
    assert table(model.url).aliases == {"champion": second["version"], "challenger": bad["version"]}
    process = checkout.start(
        "promote", "Move the champion", ACTION="rollback", VERSION="", WHY="complaints", OVERRIDE=""
    )
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert table(model.url).aliases["champion"] == first["version"]
    moves = history(model.url, "champion")
    assert [(each["kind"], each["context"]["who"]) for each in moves] == [
        ("promote", "ann"),
        ("promote", "ann"),
        ("rollback", "ann"),
    ]
    assert moves[-1]["why"] == "complaints"
