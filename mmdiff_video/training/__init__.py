"""One training loop on accelerate, with EMA, atomic checkpoints and exact resume."""
