"""Ray: where stages are computed when not in this process. The only part that imports ray."""
