"""What ``from sortase import ...`` gives: the classifier, functions on datasets, plots and predictions."""
