"""What lies in the folder of somebody who works with stFormer, made by stFormer's own code (the package ``stformer``).

Run as a program with a folder; the names are those of its notebooks Tokenization, Pretrain_ML and Classification. Its
pretraining needs transformers 4: the model is made here with the configuration of ``stFormer_pretrainer.py`` and saved
as there, beside the tokenizer of ``build_custom_tokenizer(token_dict_path, mode)``, whose second parameter is the pad
token (so the pad token is called ``spot``), with the files that transformers 4 writes for it.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType

GENES = 60
SPOTS = 120
SUBTYPES = ("Basal", "HER2", "LumA")


def gene(number: int) -> str:
    return f"ENSG{number:011d}"


def write_counts(path: Path) -> None:
    """Counts of a Visium section in which each subtype has ten genes of its own."""
    import anndata
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    subtype = np.arange(SPOTS) % len(SUBTYPES)
    counts = rng.poisson(2, (SPOTS, GENES)).astype(np.float32)
    for number in range(len(SUBTYPES)):
        counts[subtype == number, 10 * number : 10 * number + 10] += 12
    spots = pd.DataFrame(
        {
            "patient_id": [f"P{i % 4}" for i in range(SPOTS)],
            "classification": ["tumour"] * SPOTS,
            "subtype": [SUBTYPES[i] for i in subtype],
            "barcode": [f"AAAC{i}-1" for i in range(SPOTS)],
            "n_counts": counts.sum(axis=1),
        },
        index=[str(i) for i in range(SPOTS)],
    )
    genes = pd.DataFrame({"ensembl_id": [gene(i) for i in range(GENES)]}, index=[f"G{i}" for i in range(GENES)])
    data = anndata.AnnData(counts, obs=spots, var=genes)
    data.obsm["spatial"] = rng.normal(size=(SPOTS, 2))
    path.parent.mkdir(parents=True)
    data.write_h5ad(path)


def hallmark() -> dict[str, list[str]]:
    """Gene sets by Ensembl id as the notebook reads them from MSigDB's hallmark file: some genes are in two of them."""
    return {
        "HALLMARK_HYPOXIA": [gene(i) for i in range(20)],
        "HALLMARK_APOPTOSIS": [gene(i) for i in range(15, 35)],
        "HALLMARK_ANGIOGENESIS": [gene(i) for i in range(40, 50)],
    }


def stand_in() -> None:
    """Empty modules for loompy and crick; of scanpy only anndata's reader is used, and loads in a tenth of the time."""
    import anndata

    modules = {name: ModuleType(name) for name in ("loompy", "crick", "crick.tdigest", "scanpy")}
    sys.modules.update(modules)
    vars(modules["crick.tdigest"])["TDigest"] = object
    vars(modules["crick"])["tdigest"] = modules["crick.tdigest"]
    vars(modules["scanpy"]).update(read_h5ad=anndata.read_h5ad, AnnData=anndata.AnnData)


def pretrain(folder: Path, dictionary: Path, mode: str) -> None:
    """What PretrainML.run_pretraining leaves in ``final``, with transformers 4."""
    import torch
    from stFormer.tokenization.SpatialTokenize import build_custom_tokenizer
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_act="relu",
        attention_probs_dropout_prob=0.02,
        hidden_dropout_prob=0.02,
        max_position_embeddings=80,
        pad_token_id=0,
        vocab_size=GENES + 2,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    build_custom_tokenizer(str(dictionary), mode).save_pretrained(folder)
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    special = {
        "cls_token": "<cls>",
        "mask_token": "<mask>",
        "pad_token": mode,
        "sep_token": "<sep>",
        "unk_token": "<unk>",
    }
    settings = {
        "added_tokens_decoder": {str(token.pop("id")): token for token in added},
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {},
        "model_max_length": 2048 if mode == "spot" else 4096,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def main(folder: Path) -> None:
    stand_in()
    from datasets import load_from_disk
    from stFormer.classifier.classifier_utils import label_classes
    from stFormer.tokenization.SpatialTokenize import SpatialTokenizer, create_token_dictionary

    write_counts(folder / "data" / "section.h5ad")
    output, prepared = folder / "output", folder / "prepared"
    output.mkdir()
    dictionary = output / "token_dictionary.pickle"
    medians = {gene(i): 100.0 for i in range(GENES)}
    (output / "gene_medians.pickle").write_bytes(pickle.dumps(medians))
    dictionary.write_bytes(pickle.dumps(create_token_dictionary(median_dict=medians)))
    for mode in ("spot", "neighborhood"):
        SpatialTokenizer(
            mode=mode,
            gene_length=40,
            custom_meta={"patient_id": "sample", **{name: name for name in ("classification", "subtype", "barcode")}},
            nproc=1,
            gene_median_file=output / "gene_medians.pickle",
            token_dict_file=dictionary,
        ).tokenize(data_dir=folder / "data", out_dir=output / mode, prefix=f"visium_{mode}")
        pretrain(output / mode / "models" / "250422_102707_stFormer_L6_E3" / "final", dictionary, mode)
    spots = str(output / "spot" / "visium_spot.dataset")
    genes, _ = label_classes("gene", load_from_disk(spots), hallmark(), str(dictionary), 1)
    genes.save_to_disk(prepared / "visium_gene_labeled.dataset")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
