"""What the text carries. In: token ids of a generated text. Out: each group's share, from which alpha follows."""
