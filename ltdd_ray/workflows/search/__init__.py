"""Search for distillation settings: what is varied, how a trial is scored, and Ray Tune."""
