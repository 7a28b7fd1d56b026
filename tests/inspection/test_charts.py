"""Charts of the report tell values apart."""

import re

import numpy as np
import pytest

from skimprint.inspection._charts import familiarity_chart


@pytest.mark.parametrize(
    "low, high", [(0.9991, 0.9999), (1.01, 1.16), (100.1, 100.2), (-1e20, 1e20)]
)
def test_the_axes_of_the_report_tell_values_apart(low, high):
    known = np.linspace(low, high, 50)
    chart = familiarity_chart(known, known[:0], None)
    shown = [float(text) for text in re.findall(r'"middle">([-.+\de]+)<', chart)]
    assert len(shown) > 2
    np.testing.assert_allclose(np.diff(shown), shown[1] - shown[0])
    assert re.findall(r'"end">(\d+%)<', chart) == ["4%", "0%"]
