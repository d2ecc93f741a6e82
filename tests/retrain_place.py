"""Where retrainings of small sequences are tried: data, a configuration, and what comes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from retrain_data import sequence_settings, sequences, write
from sortase import storage
from sortase.cli import main
from sortase.registry.models import Model
from sortase.registry.moves import table


class Place:
    """A folder or bucket with data, a configuration and what comes of them."""

    def __init__(self, root: str, folder: Path, **sections: Any):
        self.root, self.folder = root, folder
        self.config = write(folder / "retrain.yaml", sequence_settings(root, **sections))
        self.model = Model(storage.join(root, "registry", "small"), "small")

    def data(self, **options: Any) -> None:
        """The newest data take the place of those before."""
        storage.remove(storage.join(self.root, "data"))
        local = self.folder / "made"
        shutil.rmtree(local, ignore_errors=True)
        sequences(**options).save_to_disk(str(local))
        storage.upload(local, storage.join(self.root, "data"))

    def retrain(self, *options: str) -> tuple[int, dict[str, Any]]:
        out = self.folder / "out.json"
        code = main(["retrain", "-c", self.config, "--output-json", str(out), *options])
        return code, json.loads(out.read_text())

    @property
    def aliases(self) -> dict[str, str]:
        return table(self.model.url).aliases
