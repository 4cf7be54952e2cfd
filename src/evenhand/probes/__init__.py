"""WHAT IS ASKED. In: data a probe reads. Out: prompts, with what is declared about each."""
