"""The published forms in standard PyTorch, written from the papers, as the engine's baselines.

They share no code with the engine, and define their own network. The differentiable augmentation is
an argument, so that both sides get the same draws.
"""
