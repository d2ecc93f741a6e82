"""MLflow's model registry, told of versions and aliases once they are in ours: it may be late, never ahead."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from .. import storage
from ..errors import MissingExtraError
from ..redact import redacted
from .models import Model
from .names import SCHEME
from .versions import Version

TAG = "sortase.version"


def require(uri: str | None) -> None:
    """Before anything moves: MissingExtraError where a mirror is named that could not be told."""
    if uri is not None and find_spec("mlflow") is None:
        raise MissingExtraError("registry.mlflow needs the extra 'mlflow': pip install 'sortase[mlflow]'")


def mirror(
    uri: str | None, model: Model, version: Version, alias: str | None = None, *, log: Callable[[str], None]
) -> None:
    """Make the version known at ``uri``, with the alias; what is there already stays. A mirror that does not answer is
    said, and changes nothing here: the next call tells it."""
    if uri is None:
        return
    require(uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        number = _known(MlflowClient(tracking_uri=uri, registry_uri=uri), model, version, alias)
    except (MlflowException, OSError) as error:
        log(
            f"mlflow: {redacted(str(error))}; the registry {model.url} holds all the same, the next call tells it again"
        )
        return
    log(f"mlflow: {model.name} version {number} is {version.name}{f', {alias}' if alias else ''}")


def _known(client: Any, model: Model, version: Version, alias: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model.name, description=f"mirror of {model.url}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{model.name}' and tag.`{TAG}` = '{version.name}'")
    if found:
        number = str(found[0].version)
    else:
        tags = {TAG: version.name, "sortase.model": version.model, "sortase.run": version.record["run"]}
        tags |= {
            f"metric.{name}": f"{value:.6g}" for name, value in version.record["metrics"].items() if value is not None
        }
        # a server refuses folders of this machine, and what looks like a relative path
        source = version.model if storage.is_remote(version.model) else f"{SCHEME}/{model.name}@{version.name}"
        made = client.create_model_version(model.name, source=source, tags=tags, await_creation_for=0)
        number = str(made.version)
    if alias is not None:
        client.set_registered_model_alias(model.name, alias, number)
    return number
