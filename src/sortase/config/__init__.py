"""One typed, frozen configuration for run.yaml, flags and the classifier's arguments."""
