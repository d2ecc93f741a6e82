"""Where everything lies in a run folder: every name stands here once."""

from __future__ import annotations

from dataclasses import dataclass

from .. import storage

RUN = "run.json"  # what the run is, and what became of it
STOP = "stop.json"  # a wish that the run stops
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.parquet"
PICKLED_PREDICTIONS = "predictions.pkl"
REPORT = "report.html"
DATA = "data"
SUMMARY = "prepare.json"  # of what was prepared
PREPARED = f"{DATA}/{SUMMARY}"
SPLIT = "split.parquet"
CARD = "README.md"  # in the model's folder
TOKENIZED, VOCABULARY, MEDIANS = "tokenized.dataset", "vocabulary.pkl", "medians.json"


@dataclass(frozen=True)
class DataPaths:
    """What the stages tokenize and prepare write below ``out``; ``prefix`` begins the names of what is prepared."""

    out: str
    prefix: str

    @property
    def tokenized(self) -> str:
        return storage.join(self.out, TOKENIZED)

    @property
    def vocabulary(self) -> str:
        return storage.join(self.out, VOCABULARY)

    @property
    def dataset(self) -> str:
        return storage.join(self.out, f"{self.prefix}_labeled.dataset")

    @property
    def class_map(self) -> str:
        return storage.join(self.out, f"{self.prefix}_id_class_dict.pkl")

    @property
    def class_map_json(self) -> str:
        return storage.join(self.out, f"{self.prefix}_id_class_dict.json")

    @property
    def split(self) -> str:
        return storage.join(self.out, SPLIT)

    @property
    def summary(self) -> str:
        return storage.join(self.out, SUMMARY)
