"""The reliability diagram."""

import json

from explainft.reporting.reliability import reliability_chart
from explainft.voting.calibration import calibrate


def test_the_diagram_has_a_dot_for_each_bin_with_samples():
    calibration = calibrate([0.15, 0.85, 0.95], [False, True, True], [5, 6, 7], ["a", "a", "b"])
    chart = json.loads(reliability_chart(calibration).to_json())
    [dots] = [layer["data"]["name"] for layer in chart["layer"] if layer["mark"]["type"] == "circle"]
    assert [row["accuracy"] for row in chart["datasets"][dots]] == [0.0, 1.0, 1.0]
