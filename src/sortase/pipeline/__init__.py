"""The stages in reading order: tokenize, prepare, train, evaluate, predict, report."""
