"""What runs: the engine's loop round the pure core, the kit for participants, and the read side."""
