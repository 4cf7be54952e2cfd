"""WHO IS SHOWN. In: pictures that were drawn. Out: readings of them, and labels with unknown counted."""
