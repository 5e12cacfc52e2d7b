"""The data set on which `nnunet-topo plan` is run."""

from ..priors.conftest import dataset

__all__ = ["dataset"]
