"""The drift report that people open: Evidently's page, saved as one HTML file.

The numbers that sensors act on are `fraud_platform.drift`; this page never decides anything.
"""

from pathlib import Path

import polars as pl


def write_drift_page(reference: pl.DataFrame, current: pl.DataFrame, path: Path) -> Path:
    """Compare two frames column by column and save the page.

    Args:
        reference: numeric columns, e.g. the champion's training sample.
        current: the same columns on the rows under test; one that is empty on either side is left
            out, because Evidently refuses it.
        path: the HTML file to replace.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    shared = [name for name in reference.columns if name in current.columns]
    columns = [n for n in shared if reference[n].count() > 0 and current[n].count() > 0]
    definition = DataDefinition(numerical_columns=columns)
    sides = [
        Dataset.from_pandas(frame.select(columns).to_pandas(), data_definition=definition)
        for frame in (current, reference)
    ]
    run = Report([DataDriftPreset(num_method="psi")]).run(*sides)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    run.save_html(str(part))
    part.replace(path)
    return path
