"""With which code a run was made."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = (
    *(f"nnunet_topo/{part}" for part in ("evaluation", "images", "labels", "losses", "metrics")),
    *(f"nnunet_topo/{part}" for part in ("correction", "postprocessing", "priors", "refinement")),
    *(f"nnunet_topo/{part}" for part in ("topology", "training")),
    *("trainers", "tests/small_plans.py"),
    *(f"experiments/comparison/{part}.py" for part in ("arms", "data_sets", "repairs", "training")),
)
UNKNOWN = "unknown"  # code of runs that were made before it was recorded


def code_digest(root: Path = ROOT) -> str:
    """Returns eight hex digits of all files on which a result depends."""
    found = hashlib.sha256()
    for part in PARTS:
        files = sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]
        for file in files:
            found.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()[:8]
