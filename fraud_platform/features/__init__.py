"""Windowed features: declared once (`spec`), compiled to tables (`batch`) and scorer (`rings`)."""
