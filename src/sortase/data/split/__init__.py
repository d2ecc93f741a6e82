"""Rows or tokens held out for validation and test, and the audit of what was held out."""
