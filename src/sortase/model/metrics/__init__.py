"""Metrics of predictions, with intervals: arrays in, numbers out."""
