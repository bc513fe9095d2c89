"""Healing: what was measured (`evidence`), what it means (`causes`), what is done (`controller`).

Pure. Measuring is `governor`, `harm` and `monitors`; acting and remembering are adapters.
"""
