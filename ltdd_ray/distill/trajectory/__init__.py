"""Trajectory matching: the engine, its objective, and the loop that updates the set."""
