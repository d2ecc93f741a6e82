"""MLflow's model registry as a mirror: told of versions and aliases, late where it did not answer, never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry_data import NAMES, version
from sortase.registry.mirror import TAG, mirror
from sortase.registry.models import Model

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and what it uses


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(str(tmp_path / "registry" / "cells"), "cells")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_versions_and_aliases(model: Model, uri: str, client: Any) -> None:
    said: list[str] = []
    first, second = (version(model, name, metrics={"macro_f1": 0.5, "loss": None}) for name in NAMES[:2])
    mirror(uri, model, first, log=said.append)
    mirror(uri, model, first, alias="champion", log=said.append)
    mirror(uri, model, second, alias="champion", log=said.append)
    mirror(uri, model, second, alias="champion", log=said.append)
    known = client.search_model_versions("name = 'cells'")
    assert sorted(each.tags[TAG] for each in known) == NAMES[:2], "each is told once"
    champion = client.get_model_version_by_alias("cells", "champion")
    assert (champion.tags[TAG], champion.source) == (second.name, f"registry:///cells@{second.name}")
    assert champion.tags["sortase.model"] == second.model
    assert champion.tags["metric.macro_f1"] == "0.5"
    assert "metric.loss" not in champion.tags
    mirror(uri, model, first, alias="champion", log=said.append)
    assert client.get_model_version_by_alias("cells", "champion").tags[TAG] == first.name, "rolled back"
    assert said[-1] == f"mlflow: cells version 1 is {first.name}, champion"


def test_a_version_of_object_storage(s3_url: str, uri: str, client: Any) -> None:
    model = Model(f"{s3_url}/registry/cells", "cells")
    mirror(uri, model, version(model, NAMES[0]), alias="challenger", log=lambda words: None)
    assert client.get_model_version_by_alias("cells", "challenger").source.startswith("s3://")


def test_what_was_missed_comes_with_the_next_move(model: Model, uri: str, client: Any, tmp_path: Path) -> None:
    """A mirror that does not answer is said, and nothing else fails."""
    said: list[str] = []
    first = version(model, NAMES[0])
    (tmp_path / "file").touch()
    mirror(f"sqlite:///{tmp_path}/file/mlflow.db", model, first, alias="champion", log=said.append)
    assert said[0].startswith("mlflow: ")
    assert f"the registry {model.url} holds all the same" in said[0]
    mirror(uri, model, first, alias="champion", log=said.append)
    assert client.get_model_version_by_alias("cells", "champion").tags[TAG] == first.name


def test_a_server_that_does_not_answer(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    mirror("http://user:hidden@127.0.0.1:9", model, version(model, NAMES[0]), log=said.append)
    assert "holds all the same" in said[0]
    assert "hidden" not in said[0]


def test_without_mlflow_nothing_is_told(model: Model) -> None:
    mirror(None, model, version(model, NAMES[0]), alias="champion", log=pytest.fail)
