"""What published models expect of the data, as data: nothing is downloaded for it.

Sources: the hub repository ctheodoris/Geneformer (config.json of the models; geneformer/__init__.py, tokenizer.py and
classifier.py, which call the kinds ``model_version`` V1 and V2).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """``release`` is the end of the names of the dictionaries; ``size`` are layers and hidden size of the model."""

    model: str
    version: str
    release: str
    size: tuple[int, int]
    vocab_size: int
    max_length: int
    special_tokens: bool

    @property
    def vocabulary_files(self) -> tuple[str, ...]:
        return f"token_dictionary_{self.release}.pkl", "token_dictionary.pkl"

    @property
    def median_files(self) -> tuple[str, ...]:
        return f"gene_median_dictionary_{self.release}.pkl", "gene_median_dictionary.pkl"

    @property
    def gene_name_files(self) -> tuple[str, ...]:
        return (
            f"ensembl_mapping_dict_{self.release}.pkl",
            f"gene_name_id_dict_{self.release}.pkl",
            "ensembl_mapping_dict.pkl",
            "gene_name_id_dict.pkl",
        )


PRESETS = {
    "geneformer-v1": Preset("Geneformer-V1-10M", "V1", "gc30M", (6, 256), 25_426, 2048, False),
    "geneformer-v2-104m": Preset("Geneformer-V2-104M", "V2", "gc104M", (12, 768), 20_275, 4096, True),
    "geneformer-v2-104m-clcancer": Preset("Geneformer-V2-104M_CLcancer", "V2", "gc104M", (12, 768), 20_275, 4096, True),
    "geneformer-v2-316m": Preset("Geneformer-V2-316M", "V2", "gc104M", (18, 1152), 20_275, 4096, True),
}
OF_VERSION = {"V1": "geneformer-v1", "V2": "geneformer-v2-104m"}  # what concerns the data is alike within a version
# Where the dictionaries lie below the folder of a model, of the repository, or of the installed package.
FOLDERS = ("", "gene_dictionaries_30m", "geneformer", "geneformer/gene_dictionaries_30m")


def table() -> str:
    """The table of the documents."""
    head = ["`model.preset`", "model", "`model_version`", "layers × width", "tokens", "`tokenize.max_length`"]
    head += ["`tokenize.special_tokens`", "dictionaries"]
    rows = [
        [
            f"`{name}`",
            preset.model,
            preset.version,
            f"{preset.size[0]} × {preset.size[1]}",
            f"{preset.vocab_size:,}",
            str(preset.max_length),
            "`<cls>` … `<eos>`" if preset.special_tokens else "none",
            f"`*_{preset.release}.pkl`",
        ]
        for name, preset in PRESETS.items()
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
