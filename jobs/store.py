"""jobs/store.py list|show|current|rollback|prune|verify --store DIR: a model store; see --help."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
try:
    from als_spark.cli.store import main
except ModuleNotFoundError as error:
    if error.name != "als_spark":
        raise
    # From a checkout that was not installed: the package lies beside jobs/.
    sys.path.insert(0, str(ROOT))
    from als_spark.cli.store import main


if __name__ == "__main__":
    sys.exit(main())
