"""Which parameters learn when the first layers are frozen, in architectures that name their parts differently."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from model_families import LAYERS, config_of
from sortase.errors import ConfigError
from sortase.model.freeze import encoder_layers, freeze_prefix

# Parameters before the first layer, and after the last one, by what their names begin with below the body.
AROUND = {
    "bert": (["embeddings."], ["pooler."]),
    "roberta": (["embeddings."], []),
    "distilbert": (["embeddings."], []),
    "modernbert": (["embeddings."], ["final_norm."]),
    "esm": (["embeddings."], ["encoder.emb_layer_norm_after."]),
    "electra": (["embeddings.", "embeddings_project."], []),
    "deberta-v2": (["embeddings.", "encoder.rel_embeddings.", "encoder.LayerNorm."], []),
    "gpt2": (["wte.", "wpe."], ["ln_f."]),
    "opt": (["decoder.embed_tokens.", "decoder.embed_positions.", "decoder.project_in."], ["decoder.project_out."]),
}
NEVER_USED = {"esm": ["contact_head."]}  # read only for contacts
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


def model_of(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    config = config_of(family, num_labels=3)
    config.pad_token_id = config.pad_token_id or 0
    return AutoModelForSequenceClassification.from_config(config)


def changed_by_a_step(model: torch.nn.Module) -> set[str]:
    """Names of the parameters that one step of plain gradient descent moves."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    loss = torch.nn.functional.cross_entropy(model(input_ids=IDS).logits, torch.tensor([0, 2]))
    loss.backward()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.optim.AdamW(learning, lr=0.1, weight_decay=0.1).step()
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("layers", [1, 2, LAYERS])
@pytest.mark.parametrize("family", AROUND)
def test_exactly_what_comes_after_the_frozen_layers_learns(family: str, layers: int) -> None:
    model = model_of(family)
    body = f"{model.base_model_prefix}."
    stack = next(name for name, module in model.named_modules() if module is encoder_layers(model))
    first = [body + start for start in AROUND[family][0]]
    still = (*first, *(f"{stack}.{place}." for place in range(layers)))
    idle = tuple(body + start for start in NEVER_USED.get(family, []))
    freeze_prefix(model, layers)
    model.eval()
    names = {name for name, _ in model.named_parameters()}
    assert all(any(name.startswith(start) for name in names) for start in first)
    assert changed_by_a_step(model) == {name for name in names if not name.startswith(still + idle)}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name in names if not name.startswith(still + idle)}


@pytest.mark.parametrize("family", AROUND)
def test_what_is_frozen_has_no_dropout_and_the_rest_keeps_its_own(family: str) -> None:
    model = model_of(family).train()
    stack = encoder_layers(model)
    frozen = freeze_prefix(model, 2)
    assert all(module.training for module in model.modules())
    for module in frozen:
        module.eval()
    assert all(module.training for module in stack[2].modules())
    captured: list[torch.Tensor] = []
    stack[2].register_forward_pre_hook(lambda module, args, given: captured.append(args[0]), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=IDS)
        model(input_ids=IDS)
    assert torch.equal(*captured)


def test_zero_layers_leave_everything_free() -> None:
    model = model_of("bert")
    assert freeze_prefix(model, 0) == []
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("family", "layers", "words"),
    [
        pytest.param("albert", 1, "share their weights.*allowed for freeze_layers: 0", id="layers that share weights"),
        pytest.param("bert", 4, "freeze_layers=4, but the model has 3 layers; allowed: 0 to 3", id="too many"),
    ],
)
def test_what_cannot_be_frozen_is_refused(family: str, layers: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        freeze_prefix(model_of(family), layers)


@pytest.mark.parametrize("family", ["bert", "electra", "gpt2"])
def test_a_model_without_memory_is_counted_alike(family: str) -> None:
    counted = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = model_of(family)
        freeze_prefix(model, 2)
        counted.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert counted[0] == counted[1]
