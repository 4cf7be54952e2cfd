"""Adaptive Logit Adjustment. In: logits of one decode step. Out: logits moved toward what the picture shows.

``kernel`` is the mathematics, ``weights`` says which tokens move, ``signals`` give alpha and s, ``processor`` is
the transformers host, ``presets`` are the named modes.
"""
