"""The folder of a run, and the life of the attempts at it."""
