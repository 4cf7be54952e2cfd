"""Balanced Preference Optimization and what it is compared with: training a unified model to draw declared shares."""
