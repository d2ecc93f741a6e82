"""Figures and the self-contained HTML report; the only place that draws."""
