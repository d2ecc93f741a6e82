"""Scores of a trained model: the stages evaluate and predict."""
