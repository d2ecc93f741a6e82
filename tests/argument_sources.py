"""Training arguments as users of the field have them: dictionaries and command lines, with where they are from."""

from typing import Any

import numpy as np

# stFormer, stFormer/classifier/Classifier.py, GenericClassifier.default_training_args
STFORMER = {
    "eval_strategy": "steps",
    "eval_steps": 100,
    "logging_steps": 100,
    "save_steps": 100,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "num_train_epochs": 3,
    "weight_decay": 0.0,
    "fp16": True,
    "gradient_accumulation_steps": 2,
    "dataloader_pin_memory": True,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
}
# stFormer, stFormer/classifier/train_classifier.py
STFORMER_STAGE = {
    "output_dir": "out",
    "evaluation_strategy": "steps",
    "eval_steps": 100,
    "logging_steps": 100,
    "per_device_train_batch_size": 12,
    "per_device_eval_batch_size": 12,
    "num_train_epochs": 3,
    "save_steps": 100,
    "seed": 42,
    "load_best_model_at_end": True,
    "metric_for_best_model": "accuracy",
    "greater_is_better": True,
}
# stFormer, Tutorials/Classification.ipynb
STFORMER_SEARCH = {
    "learning_rate": [1e-5, 5e-5],
    "num_train_epochs": [2, 3],
    "weight_decay": [0.0, 0.3],
    "lr_scheduler_type": ["linear", "cosine", "polynomial"],
    "seed": [0, 100],
}
# Geneformer, geneformer/classifier_utils.py, get_default_train_args for a cell classifier of six layers
GENEFORMER_CELL = {
    "num_train_epochs": 10,
    "do_train": True,
    "do_eval": True,
    "evaluation_strategy": "epoch",
    "logging_steps": np.floor(5000 / 12 / 8),
    "save_strategy": "epoch",
    "group_by_length": False,
    "length_column_name": "length",
    "disable_tqdm": False,
    "weight_decay": 0.001,
    "load_best_model_at_end": True,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 500,
    "per_device_train_batch_size": 12,
    "per_device_eval_batch_size": 12,
    "output_dir": "241127_geneformer_cellClassifier",
}
GENEFORMER_GENE = GENEFORMER_CELL | {
    "num_train_epochs": 1,
    "evaluation_strategy": "no",
    "load_best_model_at_end": False,
}
# Geneformer, examples/cell_classification.ipynb
GENEFORMER_NOTEBOOK = {
    "learning_rate": 5e-5,
    "do_train": True,
    "do_eval": True,
    "evaluation_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_steps": 34,
    "group_by_length": True,
    "length_column_name": "length",
    "disable_tqdm": False,
    "lr_scheduler_type": "linear",
    "warmup_steps": 500,
    "weight_decay": 0.001,
    "per_device_train_batch_size": 12,
    "per_device_eval_batch_size": 12,
    "num_train_epochs": 10,
    "load_best_model_at_end": True,
    "output_dir": "/path/to/models/",
}
# Geneformer, examples/hyperparam_optimiz_for_disease_classifier.py
GENEFORMER_TUNED = {
    "do_train": True,
    "do_eval": True,
    "evaluation_strategy": "steps",
    "eval_steps": 41,
    "logging_steps": 41,
    "group_by_length": True,
    "length_column_name": "length",
    "disable_tqdm": True,
    "skip_memory_metrics": True,
    "per_device_train_batch_size": 12,
    "per_device_eval_batch_size": 12,
    "num_train_epochs": 1,
    "load_best_model_at_end": True,
    "output_dir": "/path/to/models/",
}
# transformers, examples/pytorch/text-classification/README.md: run_glue.py, run_glue.py with --fp16, run_xnli.py
RUN_GLUE = {
    "do_train": True,
    "do_eval": True,
    "per_device_train_batch_size": 32,
    "learning_rate": 2e-5,
    "num_train_epochs": 3,
    "output_dir": "/tmp/mrpc/",
}
RUN_GLUE_HALF = {**RUN_GLUE, "fp16": True, "do_predict": True}
RUN_XNLI = {
    "do_train": True,
    "do_eval": True,
    "per_device_train_batch_size": 32,
    "learning_rate": 5e-5,
    "num_train_epochs": 2.0,
    "output_dir": "/tmp/debug_xnli/",
    "save_steps": -1,
}
# the same folder's section on run_classification.py
RUN_CLASSIFICATION = {
    "metric_for_best_model": "accuracy",
    "do_train": True,
    "do_eval": True,
    "per_device_train_batch_size": 32,
    "learning_rate": 2e-5,
    "num_train_epochs": 1,
    "output_dir": "/tmp/amazon_reviews_multi_en/",
}
# transformers, examples/pytorch/token-classification/README.md: run_ner.py
RUN_NER = {"output_dir": "/tmp/test-ner", "do_train": True, "do_eval": True}

DICTIONARIES: dict[str, dict[str, Any]] = {
    "stformer": STFORMER,
    "stformer_stage": STFORMER_STAGE,
    "geneformer_cell": GENEFORMER_CELL,
    "geneformer_gene": GENEFORMER_GENE,
    "geneformer_notebook": GENEFORMER_NOTEBOOK,
    "geneformer_tuned": GENEFORMER_TUNED,
    "run_glue": RUN_GLUE,
    "run_glue_half": RUN_GLUE_HALF,
    "run_xnli": RUN_XNLI,
    "run_classification": RUN_CLASSIFICATION,
    "run_ner": RUN_NER,
}

# Names that transformers has given up, with their defaults: training_args.py of 4.0.1 to 4.57.1, 5.0.0, and 5.8.0
OLDER_DEFAULTS: dict[str, Any] = {
    "overwrite_output_dir": False,
    "evaluation_strategy": None,
    "per_gpu_train_batch_size": None,
    "per_gpu_eval_batch_size": None,
    "logging_dir": None,
    "no_cuda": False,
    "fp16_opt_level": "O1",
    "fp16_backend": "auto",
    "half_precision_backend": "auto",
    "tpu_num_cores": None,
    "tpu_metrics_debug": False,
    "use_mps_device": False,
    "xpu_backend": None,
    "use_ipex": False,
    "mp_parameters": "",
    "model_parallel": False,
    "sharded_ddp": "",
    "fsdp_min_num_params": 0,
    "fsdp_transformer_layer_cls_to_wrap": None,
    "past_index": -1,
    "warmup_ratio": 0.0,
    "adafactor": False,
    "torchdynamo": None,
    "group_by_length": False,
    "dispatch_batches": None,
    "split_batches": None,
    "use_legacy_prediction_loop": False,
    "include_inputs_for_metrics": False,
    "jit_mode_eval": False,
    "include_tokens_per_second": False,
    "save_safetensors": True,
    "ray_scope": "last",
    "push_to_hub_model_id": None,
    "push_to_hub_organization": None,
    "push_to_hub_token": None,
}
