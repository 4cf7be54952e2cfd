"""What ALA is compared with. In: a model's features or logits. Out: the same, mitigated by a published method."""
