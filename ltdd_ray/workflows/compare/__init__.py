"""All methods on the same data: which runs that makes, one after another, and the table of their results."""
