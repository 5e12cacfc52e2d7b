"""A shared disk on which names appear late and times are coarse, for the process that calls it."""

import os
import random
import time

LATEST = 0.2  # seconds until a renamed file has its name
COARSE = 2  # seconds to which times are rounded


def slow_down() -> None:
    """Delays each renaming and link, and rounds the times of all files from now on."""
    waits = random.Random(os.getpid())
    for name in ("replace", "rename", "link"):
        setattr(os, name, _delayed(getattr(os, name), waits))
    for name in ("stat", "lstat", "fstat"):
        setattr(os, name, _coarse(getattr(os, name)))


def _delayed(call, waits):
    def delayed(*arguments, **options):
        time.sleep(waits.uniform(0, LATEST))
        result = call(*arguments, **options)
        time.sleep(waits.uniform(0, LATEST))
        return result

    return delayed


def _coarse(call):
    def coarse(*arguments, **options):
        found = call(*arguments, **options)
        seconds = {key: getattr(found, key) // COARSE * COARSE for key in ("st_mtime", "st_ctime")}
        exact = {f"{key}_ns": int(of) * 10**9 for key, of in seconds.items()}
        return os.stat_result(found, {"st_atime": found.st_atime, **seconds, **exact})

    return coarse
