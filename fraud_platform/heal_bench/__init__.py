"""The scenario benchmark: injected faults, our healing, and two others beside it."""
