"""The disk under the measurements: what an fsync costs here, and how to measure on one where it costs more.

The ceiling waits for little else, while the engine computes meanwhile: what share of the ceiling is reached depends on
the disk more than on the engine. So the figures are told together with it.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("slow_disk.c")
TRIES = 200
PAGE = b"\0" * 8192


def sync_ms() -> float:
    """Milliseconds that a page and its `fdatasync` take, the median of some hundred; in a process that is preloaded."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as there:
        words = [sys.executable, "-m", "benchmarks.disk", there]
        return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@contextmanager
def slower_by(milliseconds: float) -> Iterator[None]:
    """Whatever is started meanwhile has an `fsync` that takes so much longer. Needs Linux and a C compiler."""
    if not milliseconds:
        yield
        return
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the database server may be another user's
        library = Path(folder) / "slow_disk.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        given = {"LD_PRELOAD": str(library), "BENCH_FSYNC_US": str(round(milliseconds * 1_000))}
        os.environ.update(given)
        try:
            yield
        finally:
            for name in given:
                del os.environ[name]


def _measure(folder: str) -> float:
    took = []
    with (Path(folder) / "page").open("wb", buffering=0) as file:
        for _ in range(TRIES):
            file.write(PAGE)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1_000


if __name__ == "__main__":
    sys.stdout.write(f"{_measure(sys.argv[1]):.3f}\n")
