"""How uneven, and at what cost. In: columns of labels. Out: estimates with their intervals."""
