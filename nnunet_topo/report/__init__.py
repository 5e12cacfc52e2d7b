"""Turns the metrics of several models into a table, figures and one page of HTML.

It imports neither torch nor nnU-Net and reads no images: it draws the arrays that it is given.
"""

from nnunet_topo.report.measures import DEFAULT_METRICS, MEASURES, PRIMARY_METRIC, Measure
from nnunet_topo.report.outcomes import Row, make_table
from nnunet_topo.report.statistics import Difference, Spread

__all__ = [
    "DEFAULT_METRICS",
    "MEASURES",
    "PRIMARY_METRIC",
    "Difference",
    "Measure",
    "Row",
    "Spread",
    "make_table",
]
