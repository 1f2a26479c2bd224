"""Searching for the weights of a distillation: what is varied, what a trial is worth, and Ray Tune around it."""
