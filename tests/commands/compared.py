"""Folders of predictions, and of trainings, that the command compares."""

import json

from nnunet_topo.cli import main
from nnunet_topo.evaluation.evaluate import evaluate_folder

from ..evaluation.study import Study, pair

DATASET = "Dataset903_Compared"

CONFIGURATION = "nnUNetPlans__3d_fullres"


class Folders(Study):
    """References and the predictions of two models, as bare folders."""

    def __init__(self, folder, **options):
        super().__init__(folder / "study", **options)
        self.other = folder / "study" / "other"
        self.other.mkdir()
        self.out = folder / "out"

    def put_both(self, name, reference, prediction, other):
        self.put(name, reference, prediction)
        self.pred, kept = self.other, self.pred
        self.put(name, None, other)
        self.pred = kept

    def compare(self, *more, names=("stock", "ours"), postprocess=False):
        folders = [
            f"{name}={folder}" for name, folder in zip(names, (self.pred, self.other), strict=True)
        ]
        arguments = ["compare", "--gt", str(self.gt), "--pred", *folders, "-djfile"]
        arguments += [str(self.djfile), "-pfile", str(self.pfile), "-o", str(self.out), "-np", "1"]
        return main([*arguments, *([] if postprocess else ["--no-postprocess"]), *more])

    def result(self):
        return json.loads((self.out / "compare.json").read_text())

    def page(self):
        return (self.out / "report.html").read_text()

    def latex(self):
        return (self.out / "compare.tex").read_text()


class Results:
    """nnU-Net's folders with two trainers of two folds, two cases each."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        for name in ("raw", "preprocessed", "results"):
            (folder / name / DATASET).mkdir(parents=True)
            monkeypatch.setenv(f"nnUNet_{name}", str(folder / name))
        self.study = Study(folder / "study")
        self.study.gt = folder / "preprocessed" / DATASET / "gt_segmentations"
        self.study.gt.mkdir()
        self.out = folder / "out"
        for trainer in ("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"):
            for fold in (0, 1):
                self.study.pred = self.fold(trainer, fold) / "validation"
                self.study.pred.mkdir(parents=True)
                for case in (2 * fold, 2 * fold + 1):
                    reference, prediction = pair(case)
                    right = "TAFL" in trainer
                    self.study.put(f"case_{case}", reference, reference if right else prediction)
                # That there is one tells that the validation is finished.
                (self.study.pred / "summary.json").write_text("{}")
            for file in (self.study.djfile, self.study.pfile):
                (self.fold(trainer, 0).parent / file.name).write_bytes(file.read_bytes())

    def fold(self, trainer, fold):
        name = f"{trainer}__{CONFIGURATION}"
        return self.folder / "results" / DATASET / name / f"fold_{fold}"

    def evaluate(self, trainer, fold, *, after_nnunet=False):
        folder = self.fold(trainer, fold) / "validation"
        (folder / "summary.json").unlink()
        if after_nnunet:
            self.study.pred, self.study.summary = folder, folder / "summary.json"
            self.study.evaluate_as_nnunet()
        files = (self.study.djfile, self.study.pfile)
        evaluate_folder(self.study.gt, folder, *files, chill=True)
        return folder

    def compare(self, *more, trainers=("nnUNetTrainer", "nnUNetTrainerTAFL_5epochs"), folds="01"):
        asked = ["compare", "-d", "903", "-c", "3d_fullres", "-tr", *trainers, "-f", *folds]
        return main([*asked, "-o", str(self.out), "-np", "1", "--no-postprocess", *more])


def files_below(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
