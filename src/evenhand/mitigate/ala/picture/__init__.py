"""What the text should carry. In: a picture. Out: a ``Claim``: s in [-1, 1] or a share per group, or none and why."""
