"""Compiles the inner loops of the engines: once per installation, cached, and announced."""

import hashlib
import importlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.caching import FunctionCache

_ANNOUNCED_AFTER_S = 1.0
_CONFIG: Any = importlib.import_module("numba.core.config")  # its names are made at run time


def kernel(function: Callable[..., Any]) -> Any:
    """Returns the function compiled at its first call, without the GIL, from the cache if possible.

    Never `parallel=True`: nnU-Net forks workers, and numba's own threads don't survive that.
    """
    folder = cache_folder()
    if folder is None:
        return numba.njit(nogil=True)(function)
    # Read while a function is decorated, and only then: other users of numba keep their own.
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(folder)
    try:
        compiled: Any = numba.njit(nogil=True)(function)
        compiled._cache = _Cache(function)  # as numba's own option `cache` does
        return compiled
    finally:
        _CONFIG.CACHE_DIR = before


class _Cache(FunctionCache):
    """Numba's cache, whose files may be damaged or cannot be written: then it is compiled again.

    Power losses and full disks leave files that are empty or end early.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Returns the compiled function for some types, None if it is not in the cache."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # of whatever damaged bytes are taken for
            _tell_of_damage(self.cache_path, type(error).__name__)
            with suppress(OSError):
                self.flush()  # the index of its files, which may be what is damaged
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Saves the compiled function, if that is possible."""
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _tell_of_damage(folder: str, kind: str) -> None:
    told = f"machine code in {folder} is damaged ({kind}) and is compiled again"
    print(f"nnunet-topo: {told}", file=sys.stderr, flush=True)


def inlined(function: Callable[..., Any]) -> Any:
    """Returns the function inlined into the kernels that call it, because a call costs more."""
    return numba.njit(nogil=True, inline="always")(function)


@cache
def cache_folder() -> Path | None:
    """Returns the folder of the machine code, None if no folder can be written.

    That is $NUMBA_CACHE_DIR, or the user's cache folder, or a private folder among the temporary
    files. It is never the package: the package may be read-only, and pip must be able to remove it.
    Each version of the engines' sources has its own folder.
    """
    sources = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("_*.py")):
        sources.update(source.read_bytes())
    for parent in _cache_parents():
        folder = parent / sources.hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _cache_parents() -> Iterator[Path]:
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(os.environ["NUMBA_CACHE_DIR"])
    yield platformdirs.user_cache_path("nnunet-topo", appauthor=False) / "numba"
    try:
        yield _private_temporary_folder()
    except OSError:
        return


def _private_temporary_folder() -> Path:
    """Returns a folder that nobody else can write to: the code in the cache is executed."""
    if not hasattr(os, "getuid"):
        return Path(tempfile.gettempdir()) / "nnunet-topo"  # Windows: the user's own
    folder = Path(tempfile.gettempdir()) / f"nnunet-topo-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if folder.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PermissionError(f"{folder} is not private")
    return folder


@contextmanager
def first_use_announced(what: str, module: str) -> Iterator[None]:
    """Says on standard error what is compiled, or loaded from the cache, if it takes over a second.

    Whether it was compiled is only certain at the end: the code may be for another processor.
    """
    began, kept = time.perf_counter(), _machine_code(module)
    where = f"kept in {cache_folder()}" if cache_folder() else "again in each process, no cache"
    doing = f"loading {what}" if kept else f"compiling {what} ({where})"

    def announce() -> None:
        print(f"nnunet-topo: {doing} ...", file=sys.stderr, flush=True)

    timer = threading.Timer(_ANNOUNCED_AFTER_S, announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    took = time.perf_counter() - began
    if took > _ANNOUNCED_AFTER_S:
        did = "loaded" if kept and kept == _machine_code(module) else "compiled"
        print(f"nnunet-topo: {did} {what} in {took:.0f} s", file=sys.stderr, flush=True)


def _machine_code(module: str) -> set[Path]:
    folder = cache_folder()
    return set(folder.glob(f"*/{module}.*.nbc")) if folder else set()
