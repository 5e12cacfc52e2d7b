"""A case predicted and repaired, in this process or in another one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from nnunetv2.utilities.helpers import empty_cache

from nnunet_topo.messages import with_type
from nnunet_topo.refinement.case import repair
from nnunet_topo.refinement.controls import postprocess
from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.refinement.output import not_written
from nnunet_topo.refinement.part import WantedTopology
from nnunet_topo.refinement.request import Request
from nnunet_topo.refinement.result import CaseResult
from nnunet_topo.refinement.trained_model import TrainedModel, open_model

WriteCase = Callable[[Path], None]
"""Writes the files of a case, given their path without its ending."""


@dataclass(frozen=True, slots=True)
class CaseJob:
    """A case to be done.

    Attributes:
        case: its name.
        files: its images.
        topology: that is wanted.
        digest: of what the result depends on.
        new: folder for its files; made if there are any.
    """

    case: str
    files: tuple[Path, ...]
    topology: WantedTopology
    digest: str
    new: Path


class CaseRepair:
    """Predicts cases and repairs them. In another process it opens the model again.

    Args:
        model_folder: of the model.
        request: what to do with each case.
        model: opened from the folder.
    """

    def __init__(self, model_folder: Path, request: Request, model: TrainedModel) -> None:
        self._model_folder, self._request = model_folder, request
        self._model: TrainedModel | None = model
        self._descent: WeightsDescent | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None, "_descent": None}

    def __call__(self, job: CaseJob) -> tuple[CaseJob, CaseResult]:
        """Writes the files of a case, and returns its result; an error becomes the result."""
        began = perf_counter()
        result, write = self._attempt(job)
        result = replace(result, seconds=round(perf_counter() - began, 1))
        shutil.rmtree(job.new, ignore_errors=True)  # of a job that was killed
        if write is not None:
            try:
                job.new.mkdir()
                write(job.new / job.case)
            except Exception as error:  # writers raise any kind of error; the disk may be full
                shutil.rmtree(job.new, ignore_errors=True)
                result = not_written(result, error)
        return job, result

    def _attempt(self, job: CaseJob) -> tuple[CaseResult, WriteCase | None]:
        """Returns the result of a case, and what writes its files."""
        model, descent = self._opened()
        prediction = None
        try:
            prediction = model.predict(job.files)
            properties = prediction.properties
            if descent is None:
                closing = self._request.closing
                result, segmentation = postprocess(model, prediction, job.topology, closing=closing)
                return result, lambda path: model.write(segmentation, properties, path)
            result, logits = repair(model, descent, prediction, job.topology)
            return result, lambda path: model.export(logits, properties, path)
        except Exception as error:  # of readers, of nnU-Net, of a device without memory
            empty_cache(model.predictor.device)
            if prediction is None:
                return CaseResult("failed", f"not predicted, {with_type(error)}"), None
            logits, properties = prediction.logits, prediction.properties
            result = CaseResult("failed", f"written as predicted, {with_type(error)}")
            return result, lambda path: model.export(logits, properties, path)

    def _opened(self) -> tuple[TrainedModel, WeightsDescent | None]:
        request = self._request
        if self._model is None:
            self._model = open_model(
                self._model_folder,
                folds=request.folds,
                checkpoint=request.checkpoint,
                device=request.device,
                probabilities=request.probabilities,
            )
        if self._descent is None and not request.is_control:
            options, connectivity = request.options, self._model.connectivity
            self._descent = WeightsDescent(self._model.predictor, options, connectivity)
        return self._model, self._descent
