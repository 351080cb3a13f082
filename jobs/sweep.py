"""spark-submit jobs/sweep.py --output DIR [options]: train a grid of ALS models; see --help."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
try:
    from als_spark.cli.sweep import main as run_sweep
except ModuleNotFoundError as error:
    if error.name != "als_spark":
        raise
    # spark-submit from a checkout that was not installed: the package lies beside jobs/.
    sys.path.insert(0, str(ROOT))
    from als_spark.cli.sweep import main as run_sweep


def main(argv: list[str] | None = None) -> int:
    """Run the sweep with the defaults of conf/sweep.toml, where that is there."""
    config = ROOT / "conf" / "sweep.toml"
    return run_sweep(argv, config if config.is_file() else None)


if __name__ == "__main__":
    sys.exit(main())
