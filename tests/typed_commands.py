"""Which commands of the documents a test runs, where, and why others are not run."""

SETUP = "setup_instructions.md"
# Headings whose commands are run here in this order, one shell each; the second list takes minutes.
RUN = [
    "README.md: Citing and licence",
    f"{SETUP}: A second environment, or the first",
    "docs/metrics.md: Metrics",
    "docs/metrics.md: Betti errors in windows",
    "docs/compare.md: Folders",
    "docs/errors.md: Where the errors are",
    "docs/how_to/measure.md: One model",
    "docs/how_to/measure.md: Two models",
]
RUN_SLOWLY = [
    "README.md: Your own data",
    "docs/training.md: From a finished model",
    "docs/training.md: Settings",
    "docs/priors.md: Let your labels decide",
    "docs/semi_supervised.md: Training with unlabelled images",
    "docs/training.md: The same training twice",
    f"{SETUP}: Sharing models",
    f"{SETUP}: Slurm",
    f"{SETUP}: What the installation does, and how to refuse it",
    "docs/compare.md: Trainers",
    "docs/compare.md: Trainers that are still to be trained",
    "docs/index.md: Your own data",
    "docs/how_to/vessels.md: 3. With training",
    "docs/how_to/ring.md: 3. With training",
    "docs/how_to/finished_models.md: Overnight: fine-tune all folds and compare",
    "docs/how_to/finished_models.md: Try it first, in minutes",
]
# Headings whose commands a test of their own runs.
RUN_ELSEWHERE = {"docs/regions.md: From planning to the report": "tests/test_regions.py"}
NEWCOMER = "tests/acceptance/newcomer.sh runs it, in a fresh environment"
OF_CI = ".ci/run does that"
NO_DOCKER, NO_CONDA, NO_WINDOWS = "needs Docker", "needs conda", "needs Windows"
OUR_FILES = (
    'find "${nnUNet_preprocessed:?}" -maxdepth 2 -type f '
    r"\( -name 'topology.json*' -o -name labelled_images.json \)",
    'find "${nnUNet_results:?}" -type f '
    r"\( -name topology.json -o -name topology.png -o -name '.nnunet-topo*.lock' \)",
)
OUR_FOLDERS = "find \"${nnUNet_preprocessed:?}\" -maxdepth 2 -type d -name '*_unlabeled'"
OF_SHELL = "the shell's; the command before them is run"
NOT_RUN = {
    "nnunet-topo compare -d 27 -c 3d_fullres -tr nnUNetTrainer nnUNetTrainerTopology -o comparison "
    "--patients 'patient[0-9]+'": "tests/commands/test_compare_patients.py runs it for such names",
    "pip install submitit": "is among what the tests need",
    "nnunet-topo run -d 4 -c 3d_fullres -tr nnUNetTrainerStock nnUNetTrainerTopology -o "
    "comparison_run --executor slurm --partition gpu --time 24:00:00 --slurm mem=32G --slurm "
    "cpus-per-task=12": ("needs a cluster"),
    "pip install .": NEWCOMER,
    "nnunet-topo demo": NEWCOMER,
    'pip install ".[test]"': NEWCOMER,
    "pytest -n 2 --dist loadfile": NEWCOMER,
    "pip install --dry-run .": NEWCOMER,
    "python3 -m venv ~/nnunet-topo-env": NEWCOMER,
    "source ~/nnunet-topo-env/bin/activate": NEWCOMER,
    "pip freeze > before.txt": NEWCOMER,
    "pip wheel --wheel-dir wheelhouse .": NEWCOMER,
    "pip install --no-index --find-links wheelhouse nnunet-topo": NEWCOMER,
    "pip uninstall --yes nnunet-topo": NEWCOMER,
    "find ~/.cache/nnunet-topo -type f": NEWCOMER,
    "rm -rf ~/.cache/nnunet-topo": NEWCOMER,
    **dict.fromkeys((*OUR_FILES, *(f"{command} -delete" for command in OUR_FILES)), NEWCOMER),
    **dict.fromkeys((OUR_FOLDERS, f"{OUR_FOLDERS} -prune -exec rm -r {{}} +"), NEWCOMER),
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu": (
        "needs PyTorch's index"
    ),
    "conda create -n nnunet-topo python=3.12": NO_CONDA,
    "conda activate nnunet-topo": NO_CONDA,
    "FROM python:3.12": NO_DOCKER,
    "COPY . /opt/nnunet-topo": NO_DOCKER,
    "RUN pip install --no-cache-dir /opt/nnunet-topo": NO_DOCKER,
    "ENV nnUNet_raw=/data/raw nnUNet_preprocessed=/data/preprocessed": NO_DOCKER,
    "ENV nnUNet_results=/data/results NUMBA_CACHE_DIR=/data/machine_code": NO_DOCKER,
    "docker build -t nnunet-topo .": NO_DOCKER,
    "docker run --rm --gpus all --ipc=host -v /your/data:/data nnunet-topo nnunet-topo doctor": (
        NO_DOCKER
    ),
    "docker run --rm --gpus all --ipc=host -v /your/data:/data nnunet-topo "
    "nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerTopology": NO_DOCKER,
    "py -m venv nnunet-topo-env": NO_WINDOWS,
    r"nnunet-topo-env\Scripts\Activate.ps1": NO_WINDOWS,
    r'$env:nnUNet_raw = "D:\nnUNet_raw"': NO_WINDOWS,
    r'$env:nnUNet_preprocessed = "D:\nnUNet_preprocessed"': NO_WINDOWS,
    r'$env:nnUNet_results = "D:\nnUNet_results"': NO_WINDOWS,
    "nnunet-topo refine -i IMAGES -o REFINED -m MODEL_FOLDER "
    "--prior $nnUNet_preprocessed/Dataset004_*/topology.json": (
        "tests/refinement does it on a model whose errors are known"
    ),
    "nnunet-topo correct -i PREDICTIONS -o CORRECTED "
    "--prior $nnUNet_preprocessed/Dataset004_*/topology.json": (
        "tests/correction does it on predictions whose errors are known"
    ),
    "nnunet-topo postprocess find -d 4 -c 3d_fullres -tr nnUNetTrainer -o FOUND": (
        "tests/postprocessing does it on predictions whose errors are known"
    ),
    "nnunet-topo postprocess apply -i PREDICTED -o REPAIRED FOUND": (
        "tests/postprocessing does it on predictions whose errors are known"
    ),
    "nnUNetv2_predict -i IMAGES -o PREDICTED -d 4 -c 3d_fullres "
    "-tr nnUNetTrainerTopology_50epochs_finetune": "needs five folds; README's with one is run",
    'eval "$(nnunet-topo completion bash)"': "tests/commands/test_cli.py completes with it",
    "sbatch train.sh": "needs Slurm; the script itself is run here",
    "case $? in": OF_SHELL,
    '0) echo "every case is evaluated" ;;': OF_SHELL,
    '1) echo "some cases have problems, which are listed above" ;;': OF_SHELL,
    '*) echo "nothing was evaluated, or it was interrupted" ;;': OF_SHELL,
    "esac": OF_SHELL,
    "python3 -m venv .venv": OF_CI,
    "source .venv/bin/activate": OF_CI,
    'pip install -e ".[dev]"': OF_CI,
    "pre-commit install": "would change the checkout's git hooks",
    "ruff format .": OF_CI,
    "ruff check .": OF_CI,
    "basedpyright": OF_CI,
    "lint-imports": OF_CI,
}
