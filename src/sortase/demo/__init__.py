"""The two demonstration runs on real data that installed Python packages carry."""
