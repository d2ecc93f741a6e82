"""The stages tokenize and prepare: what they write, and how others open it."""
