"""Ways to start an attempt; only on this machine so far."""
