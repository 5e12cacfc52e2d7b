"""From the metrics of several models to a table, figures and one page of HTML.

Knows neither torch nor nnU-Net, and reads no images: what it draws it is given.
"""

from nnunet_topo.report.measures import DEFAULT_METRICS, MEASURES, Measure
from nnunet_topo.report.statistics import Difference, Row, Spread, make_table

__all__ = [
    "DEFAULT_METRICS",
    "MEASURES",
    "Difference",
    "Measure",
    "Row",
    "Spread",
    "make_table",
]
