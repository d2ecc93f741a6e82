"""What the configuration of a model from elsewhere can ask for: nothing that loads code or fetches anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForSequenceClassification

from sortase.errors import InputError
from sortase.model.load import build_model, load_config, load_trained
from sortase.model.task import TASKS

KERNEL = "somebody/kernel"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = BertConfig(
        vocab_size=8,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        id2label={0: "a", 1: "b"},
    )
    BertForSequenceClassification(config).save_pretrained(str(tmp_path / "model"))
    return tmp_path / "model"


def change(folder: Path, name: str = "config.json", **settings: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"attn_implementation": KERNEL}, id="a kernel of the hub"),
        pytest.param({"_attn_implementation": KERNEL}, id="by the inner name"),
        pytest.param({"_attn_implementation_internal": KERNEL}, id="by the innermost name"),
        pytest.param({"attn_implementation": f"paged|{KERNEL}@main:attention"}, id="a function of one"),
        pytest.param({"attn_implementation": {"": KERNEL}}, id="for each part"),
        pytest.param({"attn_implementation": "flash_attention_2"}, id="a package that is not installed"),
        pytest.param({"experts_implementation": KERNEL}, id="experts"),
        pytest.param({"auto_map": {"AutoConfig": "somebody/code--config.C"}}, id="code of the hub"),
        pytest.param({"auto_map": {"AutoModelForSequenceClassification": "code.M"}}, id="code in the folder"),
        pytest.param({"use_kernels": True, "kernel_config": {"RMSNorm": KERNEL}}, id="kernels of layers"),
        pytest.param({"quantization_config": None}, id="no quantisation"),
    ],
)
def test_what_would_load_code_is_dropped(checkpoint: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    (checkpoint / "code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    change(checkpoint, **settings)
    config = load_config(str(checkpoint), None)
    model = build_model(TASKS["sequence"], {"a": 0, "b": 1}, str(checkpoint), config, 0)
    trained = load_trained(str(checkpoint)).model
    for made in (model, trained):
        assert made.config._attn_implementation in ("sdpa", "eager")
        assert not {"auto_map", "use_kernels", "kernel_config"} & vars(made.config).keys()
        assert KERNEL not in made.config.to_json_string()
    assert not (tmp_path / "executed").exists()


def test_quantised_weights_are_refused(checkpoint: Path) -> None:
    change(checkpoint, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    for load in (lambda: load_config(str(checkpoint), None), lambda: load_trained(str(checkpoint))):
        with pytest.raises(InputError, match=r"the weights of .*model are quantised"):
            load()


def test_an_adapter_does_not_choose_the_weights(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/model"}))
    with pytest.raises(InputError, match=r"model holds adapter_config\.json, an adapter of another model"):
        load_trained(str(checkpoint))


def test_shards_are_safetensors(checkpoint: Path) -> None:
    """transformers unpickles a shard by the ending of its name."""
    (checkpoint / "model.safetensors").rename(checkpoint / "weights.bin")
    index = {"metadata": {}, "weight_map": {"classifier.weight": "weights.bin"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names the weights 'weights\.bin'; only \.safetensors are read"):
        load_trained(str(checkpoint))


def test_the_choice_of_this_configuration_stays(checkpoint: Path) -> None:
    change(checkpoint, attn_implementation=KERNEL)
    config = load_config(str(checkpoint), {"hidden_dropout_prob": 0.3, "_attn_implementation": "eager"})
    assert (config.hidden_dropout_prob, config._attn_implementation) == (0.3, "eager")
