"""Models that draw with codes and read pictures too. In: prompts, or pictures. Out: pictures, codes, answers.

``model.UnifiedModel`` is what is used; ``janus`` and ``emu3`` say how their family is asked and drawn with, ``codes``
takes the steps over ``rows`` (the cache), ``likelihood`` scores codes that are given, ``load`` opens a checkpoint.
"""
