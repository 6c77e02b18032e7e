"""What API replicas share through Redis: the statuses that clients poll, and rate limits. All of it may vanish."""
