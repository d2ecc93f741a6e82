"""The sections of report.html."""
