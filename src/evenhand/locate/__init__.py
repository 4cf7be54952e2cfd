"""In which part of a model the bias sits. In: a unified model and prompts. Out: estimates of each part."""
