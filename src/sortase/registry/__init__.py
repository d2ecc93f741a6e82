"""Models in object storage: immutable versions, and aliases that move."""
