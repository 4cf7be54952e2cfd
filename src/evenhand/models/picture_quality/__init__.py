"""What turns drawn pictures into numbers of quality: CLIP-S, CLIP-IQA, Inception Score.

``protocol.py`` says what a metric is; ``clip_score.py``, ``clip_iqa.py`` and ``inception.py`` are the three, over
``clip_features.py`` and ``inception_network.py`` where weights are loaded, or over any function that is given instead.
"""
