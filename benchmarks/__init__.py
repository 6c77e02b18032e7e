"""How fast sagas are, always next to the group-commit ceiling of the same machine in the same run."""
