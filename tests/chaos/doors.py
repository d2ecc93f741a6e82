"""The ways into the work: a run, a search, a training on the nodes of a Ray, a retraining. Each is tiny, the same
everywhere, and tells what is wrong after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

import holder
from makers import architecture
from retrain_data import sequence_settings, sequences, write
from sortase import storage
from test_run import cells

_VERSION = re.compile(r".*\.(safetensors|parquet|pkl)|.*/class_map\.json")


class Training:
    """prepare → train → evaluate → predict → report by `sortase run`."""

    stages = ("prepare", "train", "evaluate", "predict", "report")
    sections: ClassVar[dict[str, Any]] = {"compute": {"device": "cpu"}}

    def __init__(self, root: str, folder: Path):
        self.root, self.config = root, folder / "run.yaml"

    def lay(self) -> None:
        folder = self.config.parent
        for name, data in (("cells", cells()), ("new", cells(17, seed=3).remove_columns("cell_type"))):
            data.save_to_disk(str(folder / name))
            storage.upload(folder / name, storage.join(self.root, name))
        settings: dict[str, Any] = {
            "run": {"name": "run", "output": storage.join(self.root, "runs"), "seed": 7},
            "data": {"dataset": storage.join(self.root, "cells")},
            "labels": {"task": "sequence", "column": "cell_type"},
            "split": {"strategy": "group", "column": "donor"},
            "model": {"config": architecture()},
            "train": {"num_train_epochs": 3, "learning_rate": 0.001, "save_strategy": "steps", "save_steps": 3},
            "evaluate": {"bootstrap": 0, "baseline": False},
            "predict": {"dataset": storage.join(self.root, "new")},
            **self.sections,
        }
        self.config.write_text(yaml.safe_dump(settings))

    @property
    def command(self) -> list[str]:
        return ["run", "-c", str(self.config)]

    def contents(self) -> dict[str, str]:
        return holder.contents(storage.join(self.root, "runs", "run"))

    def untrue(self) -> list[str]:
        """Stages that are not finished, or not with what their marks say."""
        from sortase.runs.folder import RunFolder

        folder, bad = RunFolder(storage.join(self.root, "runs", "run")), []
        for stage in self.stages:
            mark = folder.mark(stage)
            if mark is None:
                bad.append(f"no mark of {stage}")
            elif (damaged := folder.damage(mark)) is not None:
                bad.append(f"the mark of {stage} says other than {damaged}")
        return bad


class Search(Training):
    """The same with a search, on a Ray of its own."""

    stages = ("prepare", "tune", "evaluate", "predict", "report")
    sections: ClassVar[dict[str, Any]] = {
        "tune": {"trials": 2, "space": {"learning_rate": [1e-4, 1e-2]}, "scheduler": "none"},
        "compute": {"device": "cpu"},
    }


class OnNodes(Training):
    """Training in two processes on two nodes of a Ray, and predictions there."""

    sections: ClassVar[dict[str, Any]] = {"compute": {"device": "cpu", "workers": 2}}


class Retraining:
    """A first generation by `sortase retrain`: run, gate, registered, promoted."""

    def __init__(self, root: str, folder: Path):
        self.root, self.folder = root, folder
        self.config = folder / "retrain.yaml"

    def lay(self) -> None:
        sequences(60).save_to_disk(str(self.folder / "made"))
        storage.upload(self.folder / "made", storage.join(self.root, "data"))
        write(self.config, sequence_settings(self.root))

    @property
    def command(self) -> list[str]:
        return ["retrain", "-c", str(self.config)]

    def contents(self) -> dict[str, str]:
        """The champion's files, by their place in its version."""
        from sortase.registry.moves import table

        url = storage.join(self.root, "registry", "small")
        champion = table(url).aliases.get("champion")
        if champion is None:
            return {"champion": "none"}
        found = {n: e for n, e in storage.list_files(url).items() if f"/{champion}/" in f"/{n}" and _VERSION.match(n)}
        return {n.partition(champion)[2]: storage.sha256(storage.join(url, n), e) for n, e in found.items()}

    def untrue(self) -> list[str]:
        from sortase.registry.moves import table
        from sortase.registry.versions import version_names

        url = storage.join(self.root, "registry", "small")
        known, aliases = version_names(url), table(url).aliases
        expected = dict.fromkeys(("challenger", "champion"), known[0] if known else None)
        return [f"{len(known)} versions"] * (len(known) != 1) + [str(aliases)] * (aliases != expected)


DOORS = {"run": Training, "search": Search, "run on nodes": OnNodes, "retrain": Retraining}
