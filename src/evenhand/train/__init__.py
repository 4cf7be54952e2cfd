"""Training a model that draws. In: a model by name, choices. Out: balanced data, a trained adapter, a study."""
