"""Optional record of a run in MLflow, for teams that keep theirs there.

MLflow is not needed by anything else; the extra ``mlflow`` installs its light client
(``mlflow-skinny``), which talks to a tracking server. It is imported inside the functions, so that
a job that does not track never loads it.

A job calls :func:`check_tracking` before it works, where the user can still correct a mistake, and
:func:`log_run` after it has published, where nothing may fail any more.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from als_spark.errors import ConfigError
from als_spark.redaction import redact

T = TypeVar("T")

LONGEST_NAME, LONGEST_PARAM, LONGEST_TAG = 250, 6000, 8000
"""MLflow's limits: characters of any name, of a parameter's value, of a tag's."""
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 1000
"""What MLflow takes in one request."""

# What a job needs to be otherwise than MLflow's defaults; the user's own settings win.
_SETTINGS = {
    # Seven retries of two minutes would hold a finished job for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Standard output and the log are the job's.
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Nothing goes anywhere but to the address that was given.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

_REMEDY = (
    "give the address of a tracking server (http://...), or a folder and set "
    "MLFLOW_ALLOW_FILE_STORE=true"
)


def check_tracking(uri: str) -> None:
    """Check, without a request to a server, that runs can be logged to an address.

    Raises
    ------
    ConfigError
        If MLflow is not installed, or does not take the address.
    """
    with _settings():
        client, refusal = _mlflow(uri)
        try:
            client(tracking_uri=uri)
        except refusal as error:
            raise ConfigError(
                redact(f"MLflow at {uri}: not taken ({_reason(error)}): {_REMEDY}", uri)
            ) from error


def log_run(
    uri: str,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    tags: Mapping[str, str],
    artefacts: Path | None = None,
) -> str | None:
    """Log one finished run to MLflow; never fail because of the server.

    Names keep what MLflow takes: ``@`` becomes ``_at_`` (``ndcg@10``), other characters ``_``. A
    run whose record could not be completed is marked FAILED there. An experiment is made if there
    is none of its name; nested ``params`` become names with dots; long values are cut; metrics that
    are not finite are left out.

    Returns
    -------
    str or None
        One line that says what was not logged and why, or None if all was.

    Raises
    ------
    ConfigError
        If MLflow is not installed.
    """
    with _settings():
        client_class, _ = _mlflow(uri)
        client = run_id = None
        try:
            client = client_class(tracking_uri=uri)
            found = client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else client.create_experiment(experiment)
            run = client.create_run(experiment_id, run_name=run_name, tags=_tags(tags))
            run_id = run.info.run_id
            _log_values(client, run_id, params, metrics)
            if artefacts is not None:
                log = client.log_artifacts if artefacts.is_dir() else client.log_artifact
                log(run_id, str(artefacts))
            client.set_terminated(run_id)
        except Exception as error:  # noqa: BLE001 - what was published stays published
            if client is not None and run_id is not None:
                with suppress(Exception):
                    client.set_terminated(run_id, "FAILED")
            extent = "not logged" if run_id is None else f"run {run_id} is incomplete"
            return redact(f"MLflow at {uri}: {extent} ({_reason(error)})", uri)
    return None


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn a nested configuration into MLflow's parameters.

    ``{"training": {"rank": 20}}`` becomes ``{"training.rank": "20"}``; lists are in JSON.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flat_params(value, f"{name}.")
        elif isinstance(value, list | tuple):
            text = json.dumps(value, default=str, ensure_ascii=False)
            flat[_valid_name(name)] = text[:LONGEST_PARAM]
        else:
            flat[_valid_name(name)] = str(value)[:LONGEST_PARAM]
    return flat


def finite_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that are finite numbers, under names that MLflow takes."""
    return {
        _valid_name(name): float(value)
        for name, value in metrics.items()
        if value is not None and math.isfinite(value)
    }


def _log_values(
    client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float | None]
) -> None:
    from mlflow.entities import Metric, Param

    for pairs in _batches(flat_params(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=[Param(name, text) for name, text in pairs])
    now = int(time.time() * 1000)
    for values in _batches(finite_metrics(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values])


def _batches(values: Mapping[str, T], size: int) -> Iterator[list[tuple[str, T]]]:
    waiting = iter(values.items())
    while batch := list(islice(waiting, size)):
        yield batch


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {_valid_name(name): str(value)[:LONGEST_TAG] for name, value in tags.items()}


def _valid_name(name: str) -> str:
    """Change what MLflow refuses: its file store makes a path of a name."""
    parts = (part.lstrip(".") for part in str(name).replace("@", "_at_").split("/"))
    kept = "/".join(re.sub(r"[^\w.\- ]", "_", part) for part in parts if part)
    return kept[:LONGEST_NAME].rstrip("/") or "_"


def _mlflow(uri: str) -> tuple[Any, type[Exception]]:
    """Import the client, and the exception with which it refuses."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(
            redact(
                f"MLflow at {uri}: the package is not installed ({error}): "
                "pip install 'als_spark[mlflow]'",
                uri,
            )
        ) from error
    return MlflowClient, MlflowException


@contextmanager
def _settings() -> Iterator[None]:
    """Put MLflow's settings into the environment, where it reads them at each use."""
    added = [name for name in _SETTINGS if name not in os.environ]
    os.environ.update({name: _SETTINGS[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _reason(error: Exception) -> str:
    """Return the first sentence of a message that may be a page, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0][:300].rstrip(".")
