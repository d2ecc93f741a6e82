"""New data become a new champion, or are stopped: everything around the registry of models."""
