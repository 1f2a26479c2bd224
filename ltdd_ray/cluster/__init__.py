"""Ray itself: a session, a pool of actors, messages to the driver. What runs on it knows nothing of it."""
