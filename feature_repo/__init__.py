"""Feast's view of the features, generated from `fraud_platform.features.spec`."""
