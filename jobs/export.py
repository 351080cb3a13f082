"""spark-submit jobs/export.py --store DIR --to npy --output DIR; see --help."""

import sys
from pathlib import Path

try:
    from als_spark.cli.export import main
except ModuleNotFoundError as error:
    if error.name != "als_spark":
        raise
    # spark-submit from a checkout that was not installed: the package lies beside jobs/.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from als_spark.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
