"""One training, wherever it runs: the job, the trainer, checkpoints, trials and trackers."""
