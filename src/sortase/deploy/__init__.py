"""Runs on clusters from outside: planned, submitted, followed, looked at and cancelled."""
