"""A reader of a model store that loads the current model again and again: for a drill.

It prints one JSON object when it gets SIGTERM: loads, failures, and a digest of every model that it
has seen.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from types import FrameType

from als_spark.model.factor_model import FactorModel
from als_spark.store.store import open_store

PAUSE = 0.01


def digest_of(model: FactorModel) -> str:
    """Return a digest of all that a model consists of: a mixture of two would have its own."""
    digest = hashlib.sha256()
    for side in ("user", "item"):
        ids, factors, stats = model.side(side)
        digest.update(json.dumps(ids.ids.to_pylist()).encode())
        for array in (factors, stats.degrees, stats.sums):
            digest.update(array.tobytes())
    digest.update(json.dumps(dict(model.description), sort_keys=True).encode())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> int:
    """Read until SIGTERM."""
    (path,) = sys.argv[1:] if argv is None else argv
    stopped = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.append(True)

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C is for the drill, which then asks what was seen.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loads, slowest = 0, 0.0
    failures: list[str] = []
    digests: set[str] = set()
    while not stopped:
        began = time.perf_counter()
        try:
            # Opened anew each time, as every program that wants a model does.
            digests.add(digest_of(open_store(path).load()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader had no model
            failures.append(f"{type(error).__name__}: {error}")
        loads += 1
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(PAUSE)
    record = {"loads": loads, "failures": failures, "digests": sorted(digests), "slowest": slowest}
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
