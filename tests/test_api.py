"""The public API: names, order of parameters and defaults are a contract."""

import inspect

import pytest

import sortase

REQUIRED = inspect.Parameter.empty

FUNCTIONS = {
    "build_custom_tokenizer": {"token_dict_path": REQUIRED, "pad_token": "<pad>", "mask_token": "<mask>"},
    "load_and_filter": {"filter_data": REQUIRED, "nproc": REQUIRED, "input_data": REQUIRED},
    "remove_rare": {"data": REQUIRED, "rare_threshold": REQUIRED, "state_key": REQUIRED, "nproc": REQUIRED},
    "downsample_and_shuffle": {
        "data": REQUIRED,
        "max_ncells": REQUIRED,
        "max_ncells_per_class": REQUIRED,
        "cell_state_dict": REQUIRED,
    },
    "subsample_by_class": {"labels": REQUIRED, "N": REQUIRED},
    "rename_cols": {"data": REQUIRED, "state_key": REQUIRED},
    "flatten_list": {"l": REQUIRED},
    "label_classes": {
        "classifier": REQUIRED,
        "data": REQUIRED,
        "class_dict": REQUIRED,
        "token_dict_path": REQUIRED,
        "nproc": REQUIRED,
    },
    "predict_from_checkpoint": {
        "model_dir": REQUIRED,
        "dataset_path": REQUIRED,
        "classifier_type": "sequence",
        "batch_size": 32,
        "num_workers": 4,
        "return_logits": False,
    },
    "DataCollatorForCellClassification": {"tokenizer": REQUIRED, "padding": "max_length", "max_length": 2048},
    "DataCollatorForGeneClassification": {
        "tokenizer": REQUIRED,
        "padding": "longest",
        "max_length": None,
        "label_pad_token_id": -100,
        "return_tensors": "pt",
    },
    "GenericClassifier": {
        "metadata_column": REQUIRED,
        "classifier_type": "sequence",
        "gene_class_dict": None,
        "label_mapping": None,
        "token_dictionary_file": None,
        "filter_data": None,
        "rare_threshold": 0.0,
        "max_examples": None,
        "max_examples_per_class": None,
        "training_args": None,
        "ray_config": None,
        "freeze_layers": 0,
        "forward_batch_size": 48,
        "nproc": 4,
    },
}

METHODS = {
    "prepare_data": {"input_data": REQUIRED, "output_directory": REQUIRED, "output_prefix": REQUIRED},
    "_load_tokenizer": {"name_or_path": REQUIRED},
    "train": {
        "model_checkpoint": REQUIRED,
        "dataset_path": REQUIRED,
        "output_directory": REQUIRED,
        "eval_dataset": None,
        "n_trials": 0,
        "test_size": 0.2,
        "tokenizer_name_or_path": None,
    },
    "_ray_tune": {
        "model_checkpoint": REQUIRED,
        "dataset_path": REQUIRED,
        "output_directory": REQUIRED,
        "eval_dataset_path": REQUIRED,
        "n_trials": REQUIRED,
        "test_size": REQUIRED,
        "tokenizer_name_or_path": REQUIRED,
    },
    "evaluate": {
        "model_directory": REQUIRED,
        "eval_dataset_path": REQUIRED,
        "id_class_dict_file": REQUIRED,
        "output_directory": REQUIRED,
        "tokenizer_name_or_path": None,
    },
    "plot_confusion_matrix": {
        "conf_mat": REQUIRED,
        "output_directory": REQUIRED,
        "output_prefix": REQUIRED,
        "class_order": REQUIRED,
    },
    "plot_predictions": {
        "predictions_file": REQUIRED,
        "id_class_dict_file": REQUIRED,
        "title": REQUIRED,
        "output_directory": REQUIRED,
        "output_prefix": REQUIRED,
        "class_order": REQUIRED,
    },
}


def check(function: object, expected: dict[str, object]) -> None:
    parameters = dict(inspect.signature(function).parameters)  # type: ignore[arg-type]
    parameters.pop("self", None)
    contract = {name: parameters[name] for name in list(parameters)[: len(expected)]}
    assert {name: parameter.default for name, parameter in contract.items()} == expected
    assert list(contract) == list(expected)
    assert all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in contract.values())
    extensions = list(parameters.values())[len(expected) :]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is not REQUIRED for p in extensions)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_keeps_its_signature(name: str) -> None:
    target = getattr(sortase, name)
    check(target.__init__ if inspect.isclass(target) else target, FUNCTIONS[name])


@pytest.mark.parametrize("name", METHODS)
def test_method_keeps_its_signature(name: str) -> None:
    check(getattr(sortase.GenericClassifier, name), METHODS[name])


def test_every_public_name_is_listed_and_exists() -> None:
    assert set(sortase.__all__) == {*FUNCTIONS, "SortaseError"}
    assert set(sortase.__all__) <= set(dir(sortase))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clasifier"):
        sortase.GenericClasifier  # noqa: B018
