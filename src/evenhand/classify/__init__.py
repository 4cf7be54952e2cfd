"""WHAT WAS SHOWN. In: samples. Out: labels, with unknown counted and its reason kept."""
