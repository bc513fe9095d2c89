import xml.etree.ElementTree as ET

import numpy as np

from fraud_platform.adapters.delay_chart import delay_chart
from fraud_platform.label_delays import delay_curve
from fraud_platform.labels import SOURCES


def curves():
    random = np.random.default_rng(7)
    delays = {name: random.exponential(5.0, 3000) for name in ("any", *SOURCES)}
    return {
        name: delay_curve(found, found + random.uniform(0.0, 90.0, 3000))
        for name, found in delays.items()
    }


def test_the_picture_names_every_source_within_its_width():
    drawn = ET.fromstring(delay_chart(curves(), maturity_days=7).svg())  # noqa: S314 -- our own
    legend = [node for node in drawn.iter() if node.tag.endswith("text")]
    told = {node.text: float(node.get("x")) + 6 * len(node.text) for node in legend}
    assert {f"{name} (3,000)" for name in ("any", *SOURCES)} | {"maturity"} <= set(told)
    assert max(told.values()) <= float(drawn.get("width"))
    assert max(float(node.get("y")) for node in legend) < float(drawn.get("height"))


def test_a_picture_of_every_day_stays_small():
    assert len(delay_chart(curves(), maturity_days=7).svg()) < 30_000
