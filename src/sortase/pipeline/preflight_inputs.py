"""Before a run starts: the files it reads, as far as their heads tell."""

from __future__ import annotations

from itertools import islice

import pyarrow as pa

from .. import storage
from ..config.evaluate import PredictSpec
from ..config.run import Config
from ..config.tokenize import TokenizeSpec
from ..data.counts.checks import check_first, checked, scale_of
from ..data.counts.open import open_counts
from ..data.counts.token_rows import cells_schema
from ..data.gene_classes import read_gene_classes
from ..data.labels import check_tokens_column
from ..data.peeked import peek
from ..data.source import FolderSource, Source, open_folder, require_column
from ..errors import InputError
from ..prepare.prepare import TOKEN_IDS, check_columns
from ..prepare.tokenize_plan import chosen_genes
from ..score.predictions import PredictionTable

TOKENIZED = ("input_ids", "length", "n_counts", "cell_id")  # columns that the tokenize stage makes itself


def check_counts(spec: TokenizeSpec) -> pa.Schema:
    """Columns of the dataset that the tokenize stage will make; what it refuses is refused here.

    The matrix is looked at where it begins only: a value further on that is no count is found by the stage itself.
    """
    with open_counts(spec, head=True) as counts:
        check_first(counts)
        scale = scale_of(counts, spec)
        for chunk in islice(counts.chunks(spec.chunk_cells), 1):
            checked(chunk, counts, scale.base)
        chosen_genes(spec, counts)
        return cells_schema(counts.schema)


def check_tokenized(config: Config, made: Source | None) -> None:
    """``made`` has the columns of the tokenised dataset; without it those are known that the stage is to carry."""
    spec, labels = config.tokenize, config.labels
    readable(labels.vocabulary)
    if labels.gene_class_dict is not None:
        read_gene_classes(labels.gene_class_dict)
    if made is not None:
        check_columns(made, config.data, labels, config.split)
        return
    if spec is None or spec.columns is None:
        return
    schema = pa.schema([(name, pa.null()) for name in dict.fromkeys([*TOKENIZED, *spec.columns])])
    made = FolderSource("the tokenised dataset (tokenize.columns)", schema, {}, (), "")
    wanted = {"labels.column": labels.column if labels.task == "sequence" else None, "the split": config.split.column}
    for what, name in [*wanted.items(), *(("data.filter", name) for name in config.data.filter)]:
        if name is not None:
            require_column(made, name, what)


def looked_at(url: str) -> FolderSource:
    """A saved dataset: all of one that lies here, what costs little of a remote one."""
    return peek(url) if storage.is_remote(url) else open_folder(url)


def predicted(spec: PredictSpec, task: str) -> FolderSource:
    """The dataset to be labelled; refused as the predict stage would, which comes after the training."""
    source = looked_at(spec.dataset)
    check_tokens_column(require_column(source, "input_ids", TOKEN_IDS))
    for name in spec.columns:
        require_column(source, name, "predict.columns")
    PredictionTable(["", ""], tokens=task == "token", labels=False, top_k=spec.top_k, columns=spec.columns)
    return source


def readable(*urls: str | None) -> None:
    """Each exists, and its first file can be opened."""
    for url in filter(None, urls):
        if not storage.exists(url):
            storage.fetch(url)  # raises, and says what is near it
        name = next(iter(storage.list_files(url)), None)
        if name is None:
            raise InputError(f"{url} is an empty folder")
        with storage.open_input(storage.join(url, *name.split("/")) if name else url) as file:
            file.read(1)
