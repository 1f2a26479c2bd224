"""Everything that uses Ray: the session, the pool of actors, and each stage that runs on them."""
