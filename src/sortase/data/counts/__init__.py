"""Counts of genes from any file, and their way to token ids."""
