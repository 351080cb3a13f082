"""spark-submit jobs/retrain.py --ratings PATH [--increments PATH ...] --store DIR; see --help."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
try:
    from als_spark.cli.retrain import main as run_retrain
except ModuleNotFoundError as error:
    if error.name != "als_spark":
        raise
    # spark-submit from a checkout that was not installed: the package lies beside jobs/.
    sys.path.insert(0, str(ROOT))
    from als_spark.cli.retrain import main as run_retrain


def main(argv: list[str] | None = None) -> int:
    """Run the retraining with the defaults of conf/retrain.toml, where that is there."""
    config = ROOT / "conf" / "retrain.toml"
    return run_retrain(argv, config if config.is_file() else None)


if __name__ == "__main__":
    sys.exit(main())
