"""Which rows and labels of a dataset are used."""
