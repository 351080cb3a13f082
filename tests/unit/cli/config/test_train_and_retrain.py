"""Configurations of the batch jobs, and their command lines."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from als_spark.cli.config.model import DEFAULT_SPEC
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import (
    field_name,
    option_name,
    option_types,
    paths_of,
    read_toml,
    resolve,
)
from als_spark.cli.config.stored import EvaluateConfig, RecommendConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.nightly import fit_options
from als_spark.cli.options import job_parser, parse
from als_spark.errors import ConfigError
from als_spark.nightly.checks import CheckLimits
from als_spark.nightly.run_record import Spec
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import PosteriorOptions
from tests.conftest import ROOT

LEAST = {
    TrainConfig: {"ratings": "r.csv", "store": "s"},
    RetrainConfig: {"ratings": "r.csv", "store": "s"},
    EvaluateConfig: {"ratings": "r.csv", "store": "s", "output": "o"},
    RecommendConfig: {"store": "s", "output": "o"},
}

MODEL_REFUSED = [
    ({"format": "xml"}, "--format xml: not usable"),
    ({"user_col": ""}, "--user-col is empty"),
    ({"table": "t"}, "--ratings and --table are both given"),
    ({"ratings": None}, "--ratings is missing"),
    ({"bad_rows": "keep"}, "--bad-rows keep: not usable"),
    ({"duplicates": "first"}, "--duplicates first: not usable"),
    ({"split": "odd"}, "--split odd: not usable"),
    ({"test_fraction": 1.0}, r"--test-fraction 1\.0: not usable"),
    ({"tol": -1.0}, r"--tol -1\.0: not usable"),
    ({"max_iter": 0}, "--max-iter 0: not usable"),
    ({"seed": -1}, "--seed -1: not usable"),
    ({"dtype": "float16"}, "--dtype float16: not usable"),
    ({"accelerate": 1}, "--accelerate 1: not usable"),
    ({"placement": "moon"}, "--placement moon: not usable"),
    ({"partitions": 0}, "--partitions 0: not usable"),
    ({"exchange": "pigeon"}, "--exchange pigeon: not usable"),
    ({"exchange": "shuffle", "placement": "grid"}, "--exchange shuffle with --placement grid"),
    ({"exchange": "broadcast", "placement": "grid"}, "--exchange broadcast with --placement grid"),
    ({"exchange": "shuffle", "accelerate": True}, "--exchange shuffle with --accelerate"),
    ({"rank": 0}, "--rank 0: not usable"),
    ({"reg": -1.0}, r"--lambda -1\.0: not usable"),
    ({"exponent": 5.0}, r"--exponent 5\.0: not usable"),
    ({"top": 0}, "--top 0: not usable"),
    ({"relevant_from": float("nan")}, "--relevant-from nan: not usable"),
    ({"ranking_users": -1}, "--ranking-users -1: not usable"),
    ({"keep": 0}, "--keep 0: not usable"),
    ({"lock_minutes": 0.0}, r"--lock-minutes 0\.0: not usable"),
    ({"mlflow": ""}, "--mlflow is empty"),
    ({"mlflow_experiment": ""}, "--mlflow-experiment is empty"),
]
REFUSED = {
    TrainConfig: [
        *MODEL_REFUSED,
        ({"store": None}, "--store and --output: give one of the two"),
        ({"output": "o"}, "--store and --output: give one of the two"),
        ({"store": ""}, "--store is empty"),
        ({"from_sweep": ""}, "--from-sweep is empty"),
        (
            {"store": None, "output": "o", "mlflow": "http://me:secret@host"},
            r"^--mlflow with --output o: only trainings into a store are logged: give --store in",
        ),
        (
            {"refit": True, "test_fraction": 0.0},
            "^--refit with --test-fraction 0: has no effect: the model sees all ratings anyway",
        ),
    ],
    RetrainConfig: [
        *MODEL_REFUSED,
        ({"store": ""}, "--store is missing: give the folder of the model store"),
        ({"increments": ("a", "")}, "--increments is empty: give a value, or leave it out"),
        ({"measure": "luck"}, "--measure luck: not usable: use one of rmse, mse, mae"),
        (
            {"test_fraction": 0.0},
            r"^--test-fraction 0: not usable: challenger and champion .* --refit, the default, ",
        ),
        ({"margin": -0.1}, r"--margin -0\.1: not usable"),
        (
            {"measure": "recall", "ranking_users": 0},
            "--ranking-users 0: not usable: without ranking measures there is no recall",
        ),
        ({"full_every": 0}, "--full-every 0: not usable"),
        ({"force": 1}, "--force 1: not usable"),
        *(
            ({name: -1.0}, rf"{option_name(name)} -1\.0: not usable")
            for name in CheckLimits.model_fields
        ),
        ({"max_growth": float("nan")}, "--max-growth nan: not usable"),
    ],
    EvaluateConfig: [
        ({"store": None}, "--store and --model: give one of the two"),
        ({"model": "m"}, "--store and --model: give one of the two"),
        ({"store": None, "model": "m", "version": "v"}, "--version v: versions are in a store"),
        ({"version": ""}, "--version is empty"),
        ({"ratings": None}, "--ratings is missing"),
        ({"bad_rows": "keep"}, "--bad-rows keep: not usable"),
        ({"exclude_seen": ""}, "--exclude-seen is empty"),
        ({"top": 0}, "--top 0: not usable"),
        ({"ranking_users": -1}, "--ranking-users -1: not usable"),
        ({"output": ""}, "--output is missing"),
    ],
    RecommendConfig: [
        ({"store": None}, "--store and --model: give one of the two"),
        ({"recommend_for": "cats"}, "--for cats: not usable: use one of users, items"),
        ({"format": "csv"}, "--format csv: not usable: use one of parquet, json"),
        ({"users": ""}, "--users is empty"),
        ({"top": 0}, "--top 0: not usable"),
        ({"files": 0}, "--files 0: not usable"),
        ({"bad_rows": "keep"}, "--bad-rows keep: not usable: use one of error, drop"),
        ({"recommend_for": "items", "fold_in": "f"}, "--fold-in f: users are folded in"),
        ({"risk": "averse", "fold_in": "f"}, "--fold-in f with --risk averse: nothing tells"),
        (
            {"risk": "thompson", "recommend_for": "similar-items"},
            "--risk thompson with --for similar-items: similar items are not recommended",
        ),
        ({"coverage": 0.5}, "--coverage 0.5 with --risk neutral: has no effect"),
        ({"seed": 3, "risk": "averse"}, "--seed 3 with --risk averse: .* use --risk thompson"),
        ({"recommend_for": "similar-items", "exclude_seen": "f"}, "--exclude-seen f: similar"),
        ({"output": ""}, "--output is missing"),
    ],
}
CASES = [(kind, *case) for kind, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize(("kind", "fields", "message"), CASES)
def test_refused(kind, fields, message):
    with pytest.raises(ConfigError, match=message) as info:
        resolve(kind, None, {**LEAST[kind], **fields})
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("kind", LEAST)
def test_the_least_that_is_needed(kind):
    assert kind(**LEAST[kind]) == resolve(kind, None, LEAST[kind])


@pytest.mark.parametrize(
    ("job", "text", "words", "fields"),
    [
        (
            TrainConfig,
            "ratings = 'r'\nstore = 's'\nrank = 7\nlambda = 2\n",
            ["--rank", "8", "--output", "o"],
            {"ratings": "r", "store": None, "output": "o", "rank": 8, "reg": 2.0},
        ),
        (
            RetrainConfig,
            "table = 't'\nstore = 's'\nincrements = ['a', 'b']\n",
            ["--ratings", "r"],
            {"ratings": "r", "table": None, "increments": ("a", "b")},
        ),
        (
            EvaluateConfig,
            "ratings = 'r'\nstore = 's'\noutput = 'o'\n",
            ["--model", "m"],
            {"store": None, "model": "m", "output": "o"},
        ),
        (
            RecommendConfig,
            "for = 'items'\nmodel = 'm'\noutput = 'o'\ntop = 3\n",
            ["--store", "s", "--top", "4"],
            {"recommend_for": "items", "store": "s", "model": None, "top": 4},
        ),
    ],
)
def test_a_file_and_options_that_win_over_it(tmp_path, job, text, words, fields):
    file = tmp_path / "job.toml"
    file.write_text(text)
    config = parse(job, ["--config", str(file), *words])
    assert {name: getattr(config, name) for name in fields} == fields
    file.write_text(f"{text}alternatives = 1\n")
    with pytest.raises(ConfigError, match="unknown key 'alternatives'"):
        parse(job, ["--config", str(file), *words])


class TestSpec:
    OTHER = Spec(20, Objective(2.0, 0.5))
    IMPLICIT = Spec(8, Objective(0.2, 1.0, implicit=True, alpha=9.0, nonnegative=True))

    @pytest.mark.parametrize(
        ("fields", "other", "spec"),
        [
            ({}, None, DEFAULT_SPEC),
            ({}, OTHER, OTHER),
            ({"rank": 3}, None, Spec(3, Objective(0.1, 1.0))),
            ({"rank": 3}, OTHER, Spec(3, Objective(2.0, 0.5))),
            # A lambda alone changes no exponent.
            ({"reg": 4.0}, None, Spec(10, Objective(4.0, 1.0))),
            ({"reg": 4.0, "exponent": 0.0}, None, Spec(10, Objective(4.0, 0.0))),
            ({"reg": 4.0}, OTHER, Spec(20, Objective(4.0, 0.5))),
            ({"reg": 4.0, "exponent": 1.0}, OTHER, Spec(20, Objective(4.0, 1.0))),
            ({"exponent": 1.0}, None, DEFAULT_SPEC),
            ({"exponent": 0.5}, OTHER, OTHER),
            ({"implicit": True}, None, Spec(10, Objective(0.1, 1.0, implicit=True))),
            (
                {"implicit": True, "alpha": 4.0, "reg": 3.0},
                OTHER,
                Spec(20, Objective(3.0, 0.5, implicit=True, alpha=4.0)),
            ),
            ({"nonnegative": True}, OTHER, Spec(20, Objective(2.0, 0.5, nonnegative=True))),
            ({}, IMPLICIT, IMPLICIT),
            ({"reg": 4.0}, IMPLICIT, Spec(8, Objective(4.0, 1.0, True, 9.0, True))),
            ({"alpha": 2.0}, IMPLICIT, Spec(8, Objective(0.2, 1.0, True, 2.0, True))),
            ({"nonnegative": False}, IMPLICIT, Spec(8, Objective(0.2, 1.0, True, 9.0))),
            (
                {"implicit": False, "reg": 1.0},
                IMPLICIT,
                Spec(8, Objective(1.0, 1.0, nonnegative=True)),
            ),
        ],
    )
    def test_what_is_given_and_what_is_not(self, fields, other, spec):
        assert TrainConfig(**LEAST[TrainConfig], **fields).spec(other) == spec

    @pytest.mark.parametrize(
        ("fields", "option"),
        [
            ({"noise": "rows"}, "--noise rows with --method ridge"),
            ({"feature_ridge": 9.0}, "--feature-ridge 9.0 with --implicit-features 0"),
            ({"user_feature_cols": ("a", "b")}, "--user-feature-cols a b without --user-features"),
            ({"item_features": "i.csv", "exchange": "shuffle"}, "--exchange shuffle with --item-f"),
            ({"item_features": "i.csv", "checkpoint": "k"}, "--checkpoint k with --item-features"),
            ({"implicit_features": 5, "checkpoint": "k"}, "--checkpoint k with --implicit-feat"),
            ({"implicit_features": 5, "implicit": True}, "--implicit with --implicit-features 5"),
            ({"implicit_features": 5, "accelerate": True}, "--accelerate with --implicit-feat"),
            ({"implicit_features": 5, "exchange": "shuffle"}, "--exchange shuffle with --impl"),
            ({"implicit_features": 5, "noise": "rows"}, "--noise rows with --method ridge"),
            ({"method": "sample", "feature_ridge": 9.0}, "--feature-ridge 9.0 with --method sam"),
            ({"samples": 9}, "--samples 9 with --method ridge"),
            ({"covariance": "full"}, "--covariance full with --method ridge"),
            ({"method": "sample", "covariance": "full"}, "--covariance full with --method sample"),
            ({"method": "variational", "burn_in": 5}, "--burn-in 5 with --method variational"),
            ({"method": "variational", "reg": 0.1}, "--lambda 0.1 with --method variational"),
            ({"method": "variational", "implicit": True}, "--implicit with --method variational"),
            ({"method": "sample", "nonnegative": True}, "--nonnegative with --method sample"),
            ({"method": "sample", "accelerate": True}, "--accelerate with --method sample"),
            ({"method": "sample", "tol": 0.1}, "--tol 0.1 with --method sample"),
            ({"method": "sample", "checkpoint": "kept"}, "--checkpoint kept with --method sample"),
            ({"method": "sample", "exchange": "shuffle"}, "--exchange shuffle with --method sam"),
        ],
    )
    def test_what_a_method_does_not_take_is_refused(self, fields, option):
        with pytest.raises(ConfigError, match=f"^{option}"):
            resolve(TrainConfig, None, {**LEAST[TrainConfig], **fields})

    def test_a_method_has_its_own_defaults(self):
        least = LEAST[TrainConfig]
        assert TrainConfig(**least).posterior is None
        assert TrainConfig(**least, method="variational").posterior == PosteriorOptions()
        given = {"method": "sample", "rank": 3, "seed": 4, "samples": 5, "noise": "shared"}
        assert TrainConfig(**least, **given, dtype="float64").posterior == PosteriorOptions(
            "sample", 3, "shared", samples=5, seed=4, dtype="float64"
        )
        given = {"tol": 0.1, "implicit_features": 7, "covariance": "diagonal"}
        variational = TrainConfig(**least, **given, method="variational")
        options = PosteriorOptions(n_features=7, tol=0.1, covariance="diagonal")
        assert variational.posterior == options
        assert ", diagonal covariances, 7 implicit" in variational.method_words(options)
        assert TrainConfig(**least, method="sample", refit=True).refit
        assert TrainConfig(**least, implicit_features=0).posterior is None
        ridge = TrainConfig(**least, implicit_features=7)
        assert ridge.posterior == PosteriorOptions("ridge", n_features=7)
        given = {"reg": 3.0, "exponent": 0.5, "feature_ridge": 40.0, "rank": 2, "max_iter": 9}
        assert TrainConfig(**least, **given, implicit_features=7).posterior == PosteriorOptions(
            "ridge", 2, n_features=7, max_iter=9, reg=3.0, exponent=0.5, feature_ridge=40.0
        )
        given = TrainConfig(
            **least,
            item_features="table:films",
            item_feature_cols=("genres",),
            item_col="film",
            null_words=("?",),
            encoding="latin-1",
        )
        assert given.posterior == PosteriorOptions("ridge")
        assert given.feature_sources.keys() == {"item"}
        source, columns, _ = given.feature_sources["item"]
        assert (source.table, source.roles, columns) == ("films", ("item",), ("genres",))
        assert (source.columns["item"], source.null_words) == ("film", ("?",))
        assert "features of items" in given.method_words(given.posterior)
        words = ridge.method_words(ridge.posterior)
        assert words.startswith("ridge, rank 16, lambda=20, exponent=0: ridge λ|x|² for each row")
        assert words.endswith("biases, 7 implicit features with the ridge of 300 rows")

    def test_a_model_with_biases_is_no_model_to_follow(self):
        biased = Spec(7, Objective(0.3, 1.0, bias_reg=0.1, mean=3.0))
        config = TrainConfig(**LEAST[TrainConfig], rank=5)
        said = r"has biases, which this job .*: give .* \(--rank 7 goes on from its factors"
        with pytest.raises(ConfigError, match=said):
            config.spec(biased)
        given = TrainConfig(**LEAST[TrainConfig], rank=5, reg=0.2).spec(biased)
        assert given == Spec(5, Objective(0.2, 1.0))

    @pytest.mark.parametrize(("exponent", "other"), [(0.0, None), (1.0, OTHER)])
    def test_an_exponent_without_its_lambda(self, exponent, other):
        config = TrainConfig(**LEAST[TrainConfig], exponent=exponent)
        with pytest.raises(ConfigError, match=r"without --lambda: .*: give both"):
            config.spec(other)

    @pytest.mark.parametrize(
        ("fields", "other", "message"),
        [
            ({"implicit": True}, OTHER, r"^--implicit without --lambda: a lambda of explicit"),
            ({"implicit": False}, IMPLICIT, r"^--no-implicit without --lambda: a lambda of impli"),
            ({"alpha": 2.0}, OTHER, "^--alpha 2: has no effect on explicit ratings"),
            ({"alpha": 2.0, "implicit": False, "reg": 1.0}, IMPLICIT, "^--alpha 2: has no effect"),
        ],
    )
    def test_what_does_not_go_together(self, fields, other, message):
        with pytest.raises(ConfigError, match=message):
            TrainConfig(**LEAST[TrainConfig], **fields).spec(other)

    @pytest.mark.parametrize(
        ("fields", "source", "words"),
        [
            (
                {},
                None,
                (
                    "lambda 0.1 of the ridge λ·n·|x|² for a row of n ratings (exponent 1, as "
                    "Spark MLlib), the default"
                ),
            ),
            (
                {"reg": 4.0, "exponent": 0.0},
                None,
                "lambda 4 of the ridge λ|x|² for each row (exponent 0), as given",
            ),
            (
                {"reg": 4.0, "implicit": True, "nonnegative": True},
                None,
                (
                    "lambda 4 of the ridge λ·n·|x|² for a row of n ratings above 0 (exponent 1, as "
                    "Spark MLlib), implicit feedback with α = 1, factors of at least 0, as given"
                ),
            ),
            (
                {"reg": 4.0},
                "version v1",
                "lambda 4 of the ridge λ·n^0.5·|x|² for a row of n ratings, as version v1 has it",
            ),
        ],
    )
    def test_words(self, fields, source, words):
        config = RetrainConfig(**LEAST[RetrainConfig], **fields)
        spec = config.spec(None if source is None else self.OTHER)
        assert config.objective_words(spec, source) == words


def test_roles_of_paths():
    config = RetrainConfig(ratings="r", increments=("a", "b"), store="s", mlflow="m")
    assert list(paths_of(config)) == [
        ("ratings", "input", "r"),
        ("mlflow", "tracking", "m"),
        ("increments", "input", "a"),
        ("increments", "input", "b"),
        ("store", "target store", "s"),
    ]


def test_tables_are_no_paths_and_are_read_as_tables():
    config = RetrainConfig(ratings="table:a.r", increments=("table:b", "c"), store="s")
    assert list(paths_of(config)) == [
        *(("increments", "input", "c"), ("store", "target store", "s")),
    ]
    sources = [config.source(path, timestamp=False) for path in ("table:a.r", "c")]
    assert [(source.path, source.table) for source in sources] == [(None, "a.r"), ("c", None)]
    assert [source.label for source in sources] == ["table a.r", "c"]
    for empty in ("table:", "table: "):
        with pytest.raises(ConfigError, match=f"^{empty}: names no table: write table:NAME$"):
            config.source(empty, timestamp=False)


def test_a_winner_is_refitted_unless_somebody_says_no(capsys):
    assert RetrainConfig(**LEAST[RetrainConfig]).refit
    assert not TrainConfig(**LEAST[TrainConfig]).refit
    words = ["--ratings", "r", "--store", "s"]
    for kind, given in ((RetrainConfig, "--no-refit"), (TrainConfig, "--refit")):
        config = parse(kind, [*words, given])
        assert config.refit is (kind is TrainConfig)
        assert fit_options(config).refit is config.refit
    with pytest.raises(SystemExit):
        parse(RetrainConfig, ["--help"])
    assert "held-out ones too (default: on)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", [TrainConfig, RetrainConfig])
def test_a_plan_needs_neither_ratings_nor_a_store(kind):
    counts = "users=10,items=10,ratings=50"
    config = resolve(kind, None, {"plan": True, "counts": counts})
    assert list(paths_of(config)) == []
    with pytest.raises(ConfigError, match="--ratings is missing"):
        resolve(kind, None, {"plan": True})
    with pytest.raises(ConfigError, match=r"^--counts .* without --plan: has no effect"):
        resolve(kind, None, {**LEAST[kind], "ratings": None, "counts": counts})


def test_limits():
    usual = CheckLimits()
    assert usual.max_bad_share == 0.01
    for k, name in enumerate(CheckLimits.model_fields):
        config = RetrainConfig(**LEAST[RetrainConfig], **{name: 0.01 * (k + 1)})
        assert isinstance(config, CheckLimits)
        assert getattr(config, name) == 0.01 * (k + 1)
        others = set(CheckLimits.model_fields) - {name}
        assert all(getattr(config, other) == getattr(usual, other) for other in others)


class TestFile:
    PATH = ROOT / "conf" / "retrain.toml"

    def test_its_values_are_the_defaults(self):
        least = LEAST[RetrainConfig]
        assert len(read_toml(RetrainConfig, self.PATH)) > 20
        assert resolve(RetrainConfig, self.PATH, least) == RetrainConfig(**least)

    def test_it_is_the_package_s(self):
        assert self.PATH.resolve() == Path(str(RetrainConfig.defaults))

    def test_every_option_is_in_it(self, tmp_path):
        text = self.PATH.read_text()
        commented = [
            line.removeprefix("# ")
            for line in text.splitlines()
            if line.startswith("# ") and " = " in line
        ]
        file = tmp_path / "all.toml"
        file.write_text("\n".join(commented))
        # The examples are of the right types, too.
        named = read_toml(RetrainConfig, file).keys() | read_toml(RetrainConfig, self.PATH).keys()
        # A plan is none of the configuration of a run.
        assert named == set(RetrainConfig.model_fields) - {"plan", *OF_PLANS}
        assert "lambda" in tomllib.loads(file.read_text())

    def test_words_that_python_keeps(self):
        assert option_name("reg") == "--lambda"
        assert (field_name("for"), field_name("lambda")) == ("recommend_for", "reg")


def words_of(value: object) -> list[str]:
    return list(value) if isinstance(value, tuple) else [str(value)]


OTHER_VALUES = {
    "ratings": "other.csv",
    "format": "json",
    "quoting": "none",
    "null_words": ("NULL", "-"),
    "bad_rows": "drop",
    "duplicates": "mean",
    "split": "time",
    "dtype": "float64",
    "placement": "grid",
    "exchange": "broadcast",
    "measure": "mae",
    "recommend_for": "items",
    "increments": ("a.csv", "b.csv"),
    "user_feature_cols": ("age", "home town"),
    "item_feature_cols": ("genres",),
    "from_sweep": "sweep",
    "method": "sample",
    "risk": "averse",
    "noise": "shared",
    "covariance": "diagonal",
    "checkpoint_every": "10m",
}
OF_METHODS = {
    "noise": {"method": "variational"},
    "covariance": {"method": "variational"},
    "feature_ridge": {"implicit_features": 5},
    "user_feature_cols": {"user_features": "users.csv"},
    "item_feature_cols": {"item_features": "items.csv"},
    "burn_in": {"method": "sample"},
    "samples": {"method": "sample"},
}
"""Options that belong to others, which are then given, too."""
OF_RISKS = {"coverage": "averse", "seed": "thompson"}
OF_PLANS = {
    "counts": "users=9,items=9,ratings=9",
    "cluster": "executors=1,cores=1,memory=1g",
    "as_json": True,
}
"""Options that belong to a plan."""


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in LEAST for name in kind.model_fields]
)
def test_every_field_has_an_option_that_changes_it_alone(kind, name):
    least = dict(LEAST[kind])
    if name == "table":
        del least["ratings"]
    if name == "model" or (kind is TrainConfig and name == "output"):
        del least["store"]
    if kind is TrainConfig and name in OF_METHODS:
        least |= OF_METHODS[name]
    if kind is RecommendConfig and name in OF_RISKS:
        least["risk"] = OF_RISKS[name]
    if name in ("checkpoint_every", "restart"):
        least["checkpoint"] = "kept"
    switches = []
    if name in OF_PLANS and "plan" in kind.model_fields:
        least, switches = {"plan": True, "ratings": "r.csv"}, ["--plan"]
        if name == "counts":
            del least["ratings"]
    default = getattr(kind(**LEAST[kind]), name)
    declared = option_types(kind)[name].base
    if declared is bool:
        switch = f"--no-{name}" if default else option_name(name)
        words, value = [switch], not default
    else:
        if switches:
            value = OF_PLANS[name]
        elif name in OTHER_VALUES:
            value = OTHER_VALUES[name]
            if value == default:
                value = "error"
        elif declared is int:
            value = 11
        elif declared is float:
            value = 0.25
        else:
            value = "elsewhere"
        words = [option_name(name), *words_of(value)]
    least.pop(name, None)
    pairs = [(option_name(key), str(v)) for key, v in least.items() if v is not True]
    config = parse(kind, [*switches, *(word for pair in pairs for word in pair), *words])
    assert value != default
    assert config == kind(**{**least, name: value})


@pytest.mark.parametrize("kind", LEAST)
def test_no_options_but_the_fields(kind):
    dests = [action.dest for action in job_parser(kind)._actions]
    assert len(dests) == len(set(dests))
    named = set(kind.model_fields)
    assert set(dests) - {"help", "config"} == named


@pytest.mark.parametrize("kind", LEAST)
def test_help(kind, capsys):
    with pytest.raises(SystemExit) as info:
        parse(kind, ["--help"])
    assert info.value.code == 0
    shown, complaints = capsys.readouterr()
    assert complaints == ""
    assert "Exit codes" in shown
    for name in kind.model_fields:
        assert option_name(name) in shown


@pytest.mark.parametrize("kind", LEAST)
def test_complaints_are_one_line(kind):
    with pytest.raises(ConfigError, match="unrecognized arguments: --nonsense: see --help"):
        parse(kind, ["--nonsense"])


def test_retrain_reads_a_file_and_the_command_line_wins(tmp_path):
    file = tmp_path / "retrain.toml"
    file.write_text("store = 's'\nratings = 'r'\nlambda = 2\nkeep = 3\nmax-growth = inf\n")
    config = parse(RetrainConfig, ["--config", str(file), "--keep", "4"])
    assert (config.reg, config.keep, config.max_growth) == (2.0, 4, float("inf"))
