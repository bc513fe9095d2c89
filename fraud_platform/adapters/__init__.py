"""The outside world: files, databases, registries.

An adapter is a plain class that is cheap to construct and connects on first use. It knows neither
Dagster nor Litestar, and it translates its library's exceptions into `fraud_platform.errors`.
"""
