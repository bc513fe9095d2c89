"""The Fraud Detection Handbook's benchmark: its protocols, its baselines and our model on them."""
