"""The demonstration: the whole loop once, with real processes, on simulated or your own data."""
