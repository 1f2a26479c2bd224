"""Compare methods on the same data: the run of each method, and the tables of their results."""
