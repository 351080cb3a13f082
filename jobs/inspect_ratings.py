"""spark-submit jobs/inspect_ratings.py PATH [options]: a look at ratings; see --help."""

# Not inspect.py: spark-submit puts this folder first on the path, before the standard library.
import sys
from pathlib import Path

try:
    from als_spark.cli.inspect import main
except ModuleNotFoundError as error:
    if error.name != "als_spark":
        raise
    # spark-submit from a checkout that was not installed: the package lies beside jobs/.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from als_spark.cli.inspect import main

if __name__ == "__main__":
    sys.exit(main())
