"""Models, tokenizers, losses and metrics: tensors and arrays in, the same out."""
