"""The published forms, in plain PyTorch as a researcher writes them from the papers: what the engine is compared with.

They share no code with the engine. The network's definition is their own too; the differentiable augmentation comes in as an
argument, so that both sides see the same draws.
"""
