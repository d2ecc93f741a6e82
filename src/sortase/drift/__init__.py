"""What changed in the data between two generations of a model."""
