"""``ltdd-ray bench``: the engine against the published forms, side by side in one process."""
