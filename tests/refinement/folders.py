"""A model, images and an output folder for the command."""

import json

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_topo.cli import main
from nnunet_topo.refinement.trained_model import open_model

from ..model_folder import read, write_image, write_model

PATCH = (32, 32)
LR = 0.01  # nets of four features need larger steps than those of nnU-Net
HEADER = "case,label,betti0,betti1"


class Folders:
    """A model, images and an output folder."""

    def __init__(self, folder, patch=PATCH, **options):
        self.folder = folder
        self.model = write_model(folder / "model", patch, **options)
        self.images, self.out, self.csv = folder / "in", folder / "out", folder / "priors.csv"

    def put(self, case, *channels, **options):
        write_image(self.images, case, *channels, **options)

    def priors(self, *lines, header=HEADER):
        self.csv.write_text("\n".join([header, *lines]))

    def topology(self, space="slices", unions=None, connectivity="full", **priors):
        file = self.folder / "topology.json"
        content = {"priors": {connectivity: {space: priors}}, "unions": unions or {}}
        file.write_text(json.dumps(content))
        return file

    def refine(self, *more, lr=LR):
        arguments = ["refine", "-i", self.images, "-o", self.out, "-m", self.model]
        arguments += ["-device", "cpu", "--lr", lr]
        if self.csv.exists():
            arguments += ["--per-case-priors", self.csv]
        return main([str(argument) for argument in (*arguments, *more)])

    def record(self):
        return json.loads((self.out / "refinement.json").read_text())

    def case(self, case):
        return self.record()["cases"][case]

    def written(self, case):
        return read(self.out / f"{case}.nii.gz")

    def files(self):
        return {file.name: file.read_bytes() for file in self.out.iterdir() if file.is_file()}

    def predicted(self, *, folds=("0",), probabilities=False):
        """Returns the folder of what nnU-Net itself predicts."""
        folder = self.folder / "nnunet"
        folder.mkdir(exist_ok=True)
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(self.model), folds)
        predictor.predict_from_files_sequential(str(self.images), str(folder), probabilities)
        return folder


def opened(folders, folds=None):
    return open_model(
        folders.model,
        folds=folds,
        checkpoint="checkpoint_final.pth",
        device="cpu",
        probabilities=False,
    )
