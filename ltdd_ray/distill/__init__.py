"""Distillation: the set as a file, its start, and the two families of engines."""
