"""Examples: the records of a cluster, and a demonstration of them."""
