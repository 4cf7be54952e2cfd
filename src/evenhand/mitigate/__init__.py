"""REDUCE IT. In: a model or its logits. Out: answers or weights in which the measured bias is smaller."""
