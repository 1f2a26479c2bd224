"""What the engine is worth: each measure times it side by side with the published form, in one process and one run."""
