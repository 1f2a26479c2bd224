"""CIFAR-10-LT's published cells from experts to accuracies in one process without Ray, in slices of a few minutes each.

A slice begins where the last one stopped, on the same machine or on another: the distilled set and its optimiser travel in one
file per run, the trajectories stay where they are and are trained again, from the same seeds, where they are missing.
"""
