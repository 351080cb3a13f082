"""The sweep's configuration: its checks, its TOML form, what wins over what."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from pathlib import Path

import pytest

from als_spark.cli.config.settings import (
    config_record,
    in_options,
    option_name,
    option_types,
    paths_of,
    read_toml,
    resolve,
)
from als_spark.cli.config.sweep import SweepConfig, sweep_record
from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.ranking import RankingRule
from als_spark.train.records import Judge, TrainingOptions
from tests.conftest import ROOT

FIELDS = SweepConfig.model_fields
CHOICES = {name: kind.words for name, kind in option_types(SweepConfig).items() if kind.words}
PLANNING = {"plan", "counts", "cluster", "as_json"}
NAN, INF = math.nan, math.inf

# Every value that must be refused, with the part of the message that names it.
REFUSED = [
    ("format", "xml", "--format xml: not usable: use one of auto, csv, movielens, parquet, json"),
    ("encoding", "", "--encoding is empty"),
    ("quoting", "all", "--quoting all: not usable: use one of auto, none"),
    ("null_words", (5,), "--null-words 5: not usable: use text in quotes"),
    ("bad_rows", "keep", "--bad-rows keep: not usable: use one of error, drop"),
    ("duplicates", "first", "--duplicates first: not usable: use one of error, mean, last"),
    ("split", "user", "--split user: not usable: use one of random, time"),
    ("dtype", "float16", "--dtype float16: not usable: use one of float32, float64"),
    ("cold_start", "nan", "--cold-start nan: not usable: use one of mean, drop, initial, prior"),
    ("placement", "rows", "--placement rows: not usable: use one of auto, ratings, grid"),
    ("checkpoint", "", "--checkpoint"),
    ("checkpoint_every", "5s", "--checkpoint-every 5s: not usable: give a number of iterations"),
    ("restart", "yes", "--restart yes: not usable"),
    ("exchange", "post", "--exchange post: not usable: use one of auto, broadcast, shuffle"),
    ("output", "", "--output is missing: give a folder for the results"),
    ("test_fraction", -0.1, r"--test-fraction -0\.1: not usable: use a number in \[0, 1\)"),
    ("test_fraction", 1.0, r"--test-fraction 1\.0: not usable"),
    ("test_fraction", NAN, "--test-fraction nan: not usable"),
    ("validation_fraction", -1e-9, "--validation-fraction -1e-09: not usable"),
    ("validation_fraction", 1.5, r"--validation-fraction 1\.5: not usable: use a number"),
    ("validation_fraction", NAN, "--validation-fraction nan: not usable"),
    ("validation_fraction", 0.8, r"--test-fraction 0\.2 and --validation-fraction 0\.8 leave noth"),
    ("test_fraction", 0.0, "--test-fraction 0 and --validation-fraction 0 leave nothing to choose"),
    ("ranks", (), "--ranks is empty: give at least one, such as 5"),
    ("ranks", (5, 0), "--ranks 0: not usable: use whole numbers from 1 to 10000"),
    ("ranks", (10_001,), "--ranks 10001: not usable"),
    ("ranks", (5, 1, 5), "--ranks 5,1,5: not usable: name each value once"),
    ("lambdas", (), "--lambdas is empty: give at least one"),
    ("lambdas", (1.0, -0.5), r"--lambdas -0\.5: not usable: use finite numbers of at least 0"),
    ("lambdas", (INF,), "--lambdas inf: not usable"),
    ("lambdas", (NAN,), "--lambdas nan: not usable"),
    ("lambdas", (0.5, 0.5), r"--lambdas 0\.5,0\.5: not usable: name each value once"),
    ("exponent", -0.5, r"--exponent -0\.5: not usable: use a number from 0 \(plain ridge\) to 4"),
    ("exponent", 4.5, r"--exponent 4\.5: not usable"),
    ("exponent", NAN, "--exponent nan: not usable"),
    ("tol", -1e-3, r"--tol -0\.001: not usable: use a finite number of at least 0, such as 0\.001"),
    ("tol", INF, "--tol inf: not usable"),
    ("tol", NAN, "--tol nan: not usable"),
    ("accelerate", "yes", "--accelerate yes: not usable: use true or false"),
    ("refit", 1, "--refit 1: not usable: use true or false"),
    ("alpha", -1.0, r"--alpha -1\.0: not usable: use a finite number of at least 0, such as 40"),
    ("alpha", 1.0, "--alpha 1: has no effect on explicit ratings: add --implicit, or leave it"),
    ("implicit", 1, "--implicit 1: not usable: use true or false"),
    ("nonnegative", "no", "--nonnegative no: not usable: use true or false"),
    ("method", "gibbs", "--method gibbs: not usable: use one of ridge, variational, sample"),
    ("noise", "none", "--noise none: not usable: use one of rows, shared"),
    ("covariance", "none", "--covariance none: not usable: use one of full, diagonal"),
    ("implicit_features", -1, "--implicit-features -1: not usable: use a whole number of at least"),
    (
        "feature_ridge",
        -1.0,
        r"--feature-ridge -1\.0: not usable: use a finite number of at least 0",
    ),
    ("burn_in", -1, "--burn-in -1: not usable: use a whole number of at least 0"),
    ("samples", 0, "--samples 0: not usable: use a whole number of at least 1"),
    ("max_iter", 0, "--max-iter 0: not usable: use a whole number of at least 1"),
    ("seed", -1, "--seed -1: not usable: use a whole number from 0 to 9223372036854775807"),
    ("seed", 2**63, "--seed 9223372036854775808: not usable"),
    ("judge", "auc", "--judge auc: not usable: use one of mse, rmse, mae, ndcg, recall, precision"),
    ("top", 0, "--top 0: not usable: use a whole number of at least 1"),
    ("relevant_from", NAN, "--relevant-from nan: not usable: use a finite number, such as 4"),
    ("ranking_users", -1, "--ranking-users -1: not usable: use a whole number of at least 0"),
    ("plan", "yes", "--plan yes: not usable: use true or false"),
    ("counts", "users=1", "^--counts users=1 without --plan: has no effect: add --plan"),
    ("cluster", "cores=1", "^--cluster cores=1 without --plan: has no effect: add --plan"),
    ("as_json", True, "^--json without --plan: has no effect: add --plan"),
    ("partitions", 0, "--partitions 0: not usable: use a whole number from 1 to 100000"),
    ("partitions", 100_001, "--partitions 100001: not usable"),
    # Whether files and columns of other names exist is for the reader of the ratings to say.
    ("ratings", "", "--ratings is empty: give a value, or leave it out"),
    ("table", "", "--table is empty"),
    ("test", "", "--test is empty"),
    ("user_col", "", "--user-col is empty: give a value, or leave it out"),
    ("item_col", "", "--item-col is empty"),
    ("rating_col", "", "--rating-col is empty"),
    ("timestamp_col", "", "--timestamp-col is empty"),
]


class TestChecks:
    @pytest.mark.parametrize(("field", "value", "message"), REFUSED)
    def test_refused(self, field, value, message):
        with pytest.raises(ConfigError, match=message) as info:
            resolve(SweepConfig, None, {"output": "out", field: value})
        assert "\n" not in str(info.value)

    def test_every_field_is_checked(self):
        assert {field for field, *_ in REFUSED} == FIELDS.keys()

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"judge": "map"}, "--judge map"),
            ({"top": 7}, "--top 7"),
            ({"relevant_from": 3.5}, "--relevant-from 3.5"),
        ],
    )
    def test_ranking_measures_over_nobody(self, fields, named):
        message = f"^--ranking-users 0 with {named}: not usable"
        with pytest.raises(ConfigError, match=message):
            resolve(SweepConfig, None, {"output": "out", "ranking_users": 0, **fields})

    def test_two_sources(self):
        with pytest.raises(ConfigError, match="--ratings and --table are both given"):
            resolve(SweepConfig, None, {"output": "out", "ratings": "a.csv", "table": "b"})

    @pytest.mark.parametrize(
        "fields",
        [
            {"test_fraction": 0.0, "validation_fraction": 0.999},
            {"test_fraction": 0.5, "validation_fraction": 0.4},
            {"lambdas": (0.0,), "exponent": 4.0, "tol": 0.0},
            {"ranks": (1, 10_000), "max_iter": 1, "seed": 2**63 - 1},
            {"partitions": 1},
            {"partitions": 100_000},
            # With --test the test share is not taken.
            {"test": "t.csv", "test_fraction": 0.0},
            {"test": "t.csv", "test_fraction": 0.9, "validation_fraction": 0.5},
        ],
    )
    def test_limits_are_allowed(self, fields):
        config = SweepConfig(output="out", **fields)
        for field, value in fields.items():
            assert getattr(config, field) == value

    @pytest.mark.parametrize("field", CHOICES)
    def test_every_choice_is_allowed(self, field):
        for choice in CHOICES[field]:
            of_prior = {"noise", "covariance", "prior"} & {field, choice}
            given = {field: choice, **({"method": "variational"} if of_prior else {})}
            assert getattr(SweepConfig(output="out", **given), field) == choice

    def test_source_grid_is_the_default(self):
        config = SweepConfig(output="out")
        assert config.ranks == (1, 5, 20, 50)
        assert config.lambdas == (1, 2, 4, 6)
        assert (config.exponent, config.tol, config.test_fraction) == (0, 1e-3, 0.2)


def options(**fields):
    """Resolve as from a command line, with the shipped file."""
    file = Path(str(SweepConfig.defaults))
    return resolve(SweepConfig, file, {"output": "out", **fields})


class TestMethods:
    def test_the_grid_is_of_ranks_alone(self):
        config = options(method="variational", ranks=(2, 3), seed=5, dtype="float64")
        assert (config.lambdas, config.exponent, config.cold_start) == (None, None, "prior")
        more = {"seed": 5, "dtype": "float64", "tol": 3e-4}
        assert config.posteriors == [PosteriorOptions(rank=rank, **more) for rank in (2, 3)]
        assert (config.kind, config.cold_rows) == ("variational", "initial")
        assert options(method="variational").ranks == options(method="sample").ranks == (4, 8, 16)

    def test_every_option_of_a_method_counts(self):
        given = {"noise": "shared", "implicit_features": 3, "burn_in": 4, "samples": 5}
        config = options(method="sample", ranks=(2,), **given)
        wanted = PosteriorOptions(
            "sample", rank=2, noise="shared", n_features=3, burn_in=4, samples=5
        )
        assert config.posteriors == [wanted]
        config = options(method="variational", ranks=(2,), tol=0.1, max_iter=7)
        assert config.posteriors == [PosteriorOptions(rank=2, tol=0.1, max_iter=7)]
        config = options(method="variational", ranks=(2,), covariance="diagonal")
        wanted = PosteriorOptions(rank=2, tol=3e-4, covariance="diagonal")
        assert config.posteriors == [wanted]

    @pytest.mark.parametrize("method", ["sample", "variational", "ridge"])
    def test_the_record_lists_what_ends_a_training_where_something_does(self, method):
        record = sweep_record(options(method=method))
        assert ("tol" in record, "max_iter" in record) == (method != "sample",) * 2
        assert (record["method"], record["seed"]) == (method, 0)

    def test_features_make_another_ridge(self):
        config = options(implicit_features=5, ranks=(2,), exponent=1.0, feature_ridge=9.0)
        more = {"n_features": 5, "exponent": 1.0, "feature_ridge": 9.0, "tol": 2e-3}
        assert config.posteriors == [
            PosteriorOptions("ridge", rank=2, reg=reg, **more) for reg in (10.0, 20.0, 40.0)
        ]
        assert (config.kind, config.cold_start) == ("ridge towards a mean", "prior")
        assert options(implicit_features=5).ranks == (8, 16, 32)
        assert options(implicit_features=0).posteriors == options().posteriors == []

    @pytest.mark.parametrize("cold_start", ["mean", "drop"])
    def test_cold_ratings_may_be_as_of_other_models(self, cold_start):
        config = options(method="sample", cold_start=cold_start)
        assert config.cold_rows == config.cold_start == cold_start

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"lambdas": (1.0,)},
                "^--lambdas 1 with --method {}: has no effect: leave it out, or use",
            ),
            ({"exponent": 0.0}, r"^--exponent 0\.0 with --method {}: has no effect"),
            ({"implicit": True}, "^--implicit with --method {}: has no effect"),
            ({"nonnegative": True}, "^--nonnegative with --method {}: has no effect"),
            ({"accelerate": True}, "^--accelerate with --method {}: has no effect"),
            ({"feature_ridge": 1.0}, "^--feature-ridge 1.0 with --method {}: has no effect"),
            ({"checkpoint": "kept"}, "^--checkpoint kept with --method {}: not available"),
            ({"exchange": "shuffle"}, "^--exchange shuffle with --method {}: not usable: every"),
            ({"cold_start": "initial"}, "^--cold-start initial with --method {}: not available"),
        ],
    )
    @pytest.mark.parametrize("method", ["variational", "sample"])
    def test_refused_where_lambda_is_learnt(self, method, fields, message):
        with pytest.raises(ConfigError, match=message.format(method)) as info:
            options(method=method, **fields)
        assert "\n" not in str(info.value)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"method": "sample", "tol": 0.1}, "^--tol 0.1 with --method sample: has no effect"),
            ({"method": "sample", "max_iter": 9}, "^--max-iter 9 with --method sample: has no"),
            ({"method": "variational", "samples": 9}, "^--samples 9 with --method variational: "),
            ({"method": "variational", "burn_in": 9}, "^--burn-in 9 with --method variational: "),
            ({"noise": "rows"}, "^--noise rows with --method ridge: has no effect"),
            ({"covariance": "full"}, "^--covariance full with --method ridge: has no effect"),
            (
                {"method": "sample", "covariance": "diagonal"},
                "^--covariance diagonal with --method sample: has no effect",
            ),
            (
                {"implicit_features": 5, "covariance": "full"},
                "^--covariance full with --implicit-features 5: has no effect",
            ),
            ({"feature_ridge": 9.0}, "^--feature-ridge 9.0 with --method ridge: has no effect"),
            ({"cold_start": "prior"}, "^--cold-start prior with --method ridge: not available"),
            (
                {"implicit_features": 5, "accelerate": True},
                "^--accelerate with --implicit-features 5: has no effect: leave it out, or leave t",
            ),
            ({"implicit_features": 5, "lambdas": (0.0,)}, "^--lambdas 0 with --implicit-features"),
            ({"implicit_features": 5, "feature_ridge": 0.0}, "^--feature-ridge 0: not usable"),
        ],
    )
    def test_refused_of_one_method(self, fields, message):
        with pytest.raises(ConfigError, match=message):
            options(**fields)


class TestPlan:
    COUNTS = "users=1e6,items=1e5,ratings=1e8"

    def test_no_output_is_needed_and_none_is_looked_at(self):
        config = resolve(SweepConfig, None, {"plan": True})
        assert not config.writes
        given = resolve(SweepConfig, None, {"plan": True, "output": "o", "ratings": "o/r.csv"})
        assert [path for *_, path in paths_of(given)] == ["o/r.csv"]
        written = SweepConfig(output="o", ratings="r.csv")
        assert {path for *_, path in paths_of(written)} == {"o", "r.csv"}

    def test_counts_take_the_place_of_ratings_in_the_file(self, tmp_path):
        path = toml(tmp_path, 'ratings = "r.csv"')
        config = resolve(SweepConfig, path, {"plan": True, "counts": self.COUNTS})
        assert (config.ratings, config.counts) == (None, self.COUNTS)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"ratings": "r"}, "^--counts .* with --ratings: no ratings are counted then: give on"),
            ({"table": "t"}, "^--counts .* with --table: no ratings are counted then"),
            ({"counts": "users=1"}, "^`counts=users=1`: items is missing: use users=1e6,"),
            ({"cluster": "cores=1"}, "^`cluster=cores=1`: executors is missing: use executors="),
        ],
    )
    def test_refused(self, fields, message):
        with pytest.raises(ConfigError, match=message):
            resolve(SweepConfig, None, {"plan": True, "counts": self.COUNTS, **fields})

    def test_a_run_does_not_record_them(self):
        record = config_record(SweepConfig(output="o"))
        assert record.keys() == FIELDS.keys() - PLANNING


class TestViews:
    def test_training(self):
        options = TrainingOptions(tol=0.1, max_iter=7, seed=3, dtype="float64", accelerate=True)
        assert SweepConfig(output="out", **dataclasses.asdict(options)).training == options

    def test_rankings_where_an_option_asks_for_them(self):
        def rule(**fields):
            return SweepConfig(output="out", seed=3, **fields).ranking

        assert rule() is rule(ranking_users=0) is rule(judge="mae") is None
        assert rule(judge="ndcg") == RankingRule(10, None, 20_000, 3)
        assert rule(top=5) == RankingRule(5, None, 20_000, 3)
        assert rule(relevant_from=0.0) == RankingRule(10, 0.0, 20_000, 3)
        assert rule(ranking_users=9) == RankingRule(10, None, 9, 3)
        config = SweepConfig(output="out", judge="recall", top=5)
        assert config.chosen_by == Judge("recall", 5)

    @pytest.mark.parametrize(
        ("fields", "asked"),
        [
            ({"judge": "ndcg"}, "--judge ndcg"),
            ({"top": 5}, "--top 5"),
            ({"ranking_users": 100}, "--ranking-users 100"),
        ],
    )
    def test_not_with_shuffled_factors(self, fields, asked):
        with pytest.raises(ConfigError, match=f"--exchange shuffle with {asked}: not usable"):
            resolve(SweepConfig, None, {"output": "out", "exchange": "shuffle", **fields})
        assert SweepConfig(output="out", exchange="broadcast", **fields).ranking is not None
        assert SweepConfig(output="out", exchange="shuffle").ranking is None

    def test_training_defaults_are_the_library_s(self):
        assert SweepConfig(output="out").training == TrainingOptions()

    def test_other_objectives(self):
        config = SweepConfig(
            output="out", lambdas=(2.0, 3.0), implicit=True, alpha=40.0, nonnegative=True
        )
        more = {"implicit": True, "alpha": 40.0, "nonnegative": True}
        assert config.objectives == [Objective(2.0, **more), Objective(3.0, **more)]
        plain = SweepConfig(output="out", lambdas=(2.0,), implicit=True)
        assert plain.objectives == [Objective(2.0, implicit=True)]

    @pytest.mark.parametrize(
        ("exponent", "note"),
        [
            (0.0, "ridge λ|x|² for each row (exponent 0)"),
            (1.0, "ridge λ·n·|x|² for a row of n ratings (exponent 1, as Spark MLlib)"),
            (0.5, "ridge λ·n^0.5·|x|² for a row of n ratings"),
        ],
    )
    def test_objective_note(self, exponent, note):
        (objective,) = SweepConfig(output="out", lambdas=(2.0,), exponent=exponent).objectives
        assert objective == Objective(2.0, exponent)
        assert objective.note == note

    def test_option_name(self):
        assert option_name("test_fraction") == "--test-fraction"


def toml(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestToml:
    def test_every_type(self, tmp_path):
        file = toml(
            tmp_path,
            """
            ratings = "r.csv"
            test-fraction = 0.25
            validation_fraction = 0
            ranks = [2, 3]
            lambdas = [1, 0.5]
            seed = 9
            partitions = 4
            dtype = "float64"
            """,
        )
        values = read_toml(SweepConfig, file)
        assert values == {
            "ratings": "r.csv",
            "test_fraction": 0.25,
            "validation_fraction": 0,
            "ranks": [2, 3],
            "lambdas": [1, 0.5],
            "seed": 9,
            "partitions": 4,
            "dtype": "float64",
        }
        config = resolve(SweepConfig, file, {"output": "out"})
        assert (config.ranks, config.lambdas) == ((2, 3), (1.0, 0.5))
        assert type(config.validation_fraction) is float
        assert [type(value) for value in config.lambdas] == [float, float]

    def test_a_single_value_for_a_list(self, tmp_path):
        file = toml(tmp_path, "ranks = 20\nlambdas = 2\n")
        config = resolve(SweepConfig, file, {"output": "out"})
        assert (config.ranks, config.lambdas) == ((20,), (2.0,))

    def test_unknown_key(self, tmp_path):
        file = toml(tmp_path, "rank = 5\n")
        message = rf"{file}: unknown key 'rank': the keys are ratings, table, format, .*, output$"
        with pytest.raises(ConfigError, match=message):
            read_toml(SweepConfig, file)

    def test_a_key_in_both_spellings(self, tmp_path):
        file = toml(tmp_path, "test_fraction = 0.1\ntest-fraction = 0.2\n")
        with pytest.raises(ConfigError, match=f"{file}: 'test-fraction' is there twice"):
            read_toml(SweepConfig, file)

    @pytest.mark.parametrize(
        ("line", "remedy"),
        [
            ("seed = 1.0", "a whole number from 0 to 9223372036854775807$"),
            ("seed = true", "a whole number"),
            ('max_iter = "7"', "a whole number"),
            ("partitions = 2.5", "a whole number"),
            ("tol = true", r"a finite number of at least 0, such as 0\.001$"),
            ('tol = "1e-3"', "a finite number"),
            ("ranks = [1, 2.5]", "whole numbers from 1 to 10000$"),
            ('lambdas = "1,2"', "finite numbers"),
            ("lambdas = [1, [2]]", "finite numbers"),
            ("format = 3", "one of auto, csv"),
            ("output = 3", "text in quotes"),
            ("accelerate = 1", "true or false"),
            ("ratings = 2024-01-01", "text in quotes"),
            ("[ratings]\npath = 'x'", "text in quotes"),
            ("user_col = ['a']", "text in quotes"),
        ],
    )
    def test_wrong_type(self, tmp_path, line, remedy):
        file = toml(tmp_path, line)
        key = re.match(r"\[?(\w+)", line)[1]
        message = rf"^{file}: {key} = .*: not usable: use {remedy}"
        with pytest.raises(ConfigError, match=message) as info:
            resolve(SweepConfig, file, {"output": "out", "ratings": "r.csv", "seed": 1})
        assert "\n" not in str(info.value)

    @pytest.mark.parametrize("field", ["seed", "max_iter", "tol", "ranks", "ratings", "accelerate"])
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("1" * 400, "not usable: use "),
            ("1" * 5_000, "not valid TOML: "),
            ("0x" + "f" * 5_000, r"\(too long to show, of type int\): not usable: use "),
            ("[" * 100_000 + "]" * 100_000, "not valid TOML: "),
            ("[" * 60 + "1" + "]" * 60, "not usable: use "),
            ("nan", "not usable: use "),
            ("1e400", "not usable: use "),
        ],
        ids=["400 digits", "5,000 digits", "5,000 hex digits", "deep", "60 deep", "nan", "inf"],
    )
    def test_enormous_values(self, tmp_path, field, value, message):
        file = toml(tmp_path, f"output = 'out'\n{field} = {value}\n")
        with pytest.raises(ConfigError, match=message) as info:
            resolve(SweepConfig, file, {})
        assert str(info.value).startswith(f"{file}: ")
        assert "\n" not in str(info.value)
        assert len(str(info.value)) < 400 + len(str(file))

    def test_value_that_is_refused(self, tmp_path):
        file = toml(tmp_path, 'dtype = "float16"\noutput = "out"\n')
        with pytest.raises(ConfigError, match=f"{file}: dtype = 'float16': not usable: use one of"):
            resolve(SweepConfig, file, {})

    def test_missing_file(self, tmp_path):
        message = r"--config .*/none\.toml: cannot be read \(No such file or directory\): give the"
        with pytest.raises(ConfigError, match=message):
            read_toml(SweepConfig, tmp_path / "none.toml")

    def test_folder(self, tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
            read_toml(SweepConfig, tmp_path)

    def test_invalid_toml(self, tmp_path):
        file = toml(tmp_path, "seed = \n")
        with pytest.raises(ConfigError, match=f"{file}: not valid TOML: .*line 1"):
            read_toml(SweepConfig, file)

    def test_not_utf8(self, tmp_path):
        file = tmp_path / "sweep.toml"
        file.write_bytes(b'ratings = "caf\xe9.csv"\n')
        with pytest.raises(ConfigError, match=r"not valid TOML: .*utf-8"):
            read_toml(SweepConfig, file)


class TestPrecedence:
    def test_default_file_command_line(self, tmp_path):
        file = toml(tmp_path, "seed = 5\nmax_iter = 50\noutput = 'from-file'\n")
        config = resolve(SweepConfig, file, {"seed": 6, "max_iter": None, "tol": None})
        assert (config.seed, config.max_iter, config.tol) == (6, 50, 1e-3)
        assert config.output == "from-file"

    def test_falsy_values_of_the_command_line_count(self, tmp_path):
        file = toml(tmp_path, "seed = 5\nexponent = 1\nvalidation_fraction = 0.1\n")
        config = resolve(
            SweepConfig,
            file,
            {"seed": 0, "exponent": 0.0, "validation_fraction": 0.0, "output": "out"},
        )
        assert (config.seed, config.exponent, config.validation_fraction) == (0, 0.0, 0.0)

    def test_without_a_file(self):
        assert resolve(SweepConfig, None, {"output": "out"}) == SweepConfig(output="out")

    @pytest.mark.parametrize(("given", "in_file"), [("ratings", "table"), ("table", "ratings")])
    def test_a_source_on_the_command_line_replaces_that_of_the_file(self, tmp_path, given, in_file):
        file = toml(tmp_path, f"{in_file} = 'old'\nuser_col = 'u'\noutput = 'out'\n")
        config = resolve(SweepConfig, file, {given: "new", in_file: None})
        assert (getattr(config, given), getattr(config, in_file)) == ("new", None)
        assert config.user_col == "u"
        assert getattr(resolve(SweepConfig, file, {}), in_file) == "old"

    def test_two_sources_on_the_command_line(self, tmp_path):
        with pytest.raises(ConfigError, match="both given"):
            resolve(SweepConfig, None, {"ratings": "a", "table": "b", "output": "out"})

    def test_two_sources_in_the_file(self, tmp_path):
        file = toml(tmp_path, "ratings = 'a'\ntable = 'b'\noutput = 'out'\n")
        with pytest.raises(ConfigError, match="both given"):
            resolve(SweepConfig, file, {})


class TestShippedFile:
    """conf/sweep.toml documents the defaults, so it must hold them."""

    PATH = ROOT / "conf" / "sweep.toml"

    def commented_out(self) -> list[str]:
        lines = self.PATH.read_text(encoding="utf-8").splitlines()
        return [line[1:].strip() for line in lines if re.match(r"#\s*\w+\s*=", line)]

    def test_values_are_the_defaults(self):
        values = read_toml(SweepConfig, self.PATH)
        assert len(values) > 10
        assert resolve(SweepConfig, self.PATH, {"output": "out"}) == SweepConfig(output="out")

    def test_it_is_the_package_s(self):
        assert self.PATH.resolve() == Path(str(SweepConfig.defaults))

    def test_commented_out_keys_are_fields_that_are_not_set(self, tmp_path):
        keys = [next(iter(tomllib.loads(line))) for line in self.commented_out()]
        assert len(keys) > 3
        assert set(keys) <= FIELDS.keys()
        # Their example values are of the right type, and the defaults where there are some.
        needed = {
            "alpha": {"implicit": True},
            "noise": {"method": "variational"},
            "covariance": {"method": "variational"},
            "feature_ridge": {"implicit_features": 20},
            "burn_in": {"method": "sample"},
            "samples": {"method": "sample"},
        }
        usual = SweepConfig(output="out")
        for key, line in zip(keys, self.commented_out(), strict=True):
            given = {"output": "out", **needed.get(key, {})}
            config = resolve(SweepConfig, toml(tmp_path, line), given)
            assert getattr(usual, key) in (None, getattr(config, key))

    def test_every_field_is_in_it(self):
        named = {next(iter(tomllib.loads(line))) for line in self.commented_out()}
        named |= read_toml(SweepConfig, self.PATH).keys()
        # Of one run, not of a configuration: where it tests and where it writes, and plans.
        of_one_run = {"test", "output", "checkpoint", "checkpoint_every", "restart", *PLANNING}
        assert FIELDS.keys() - named == of_one_run


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            'with `duplicates="mean"` or `duplicates="last"`',
            "with --duplicates mean or --duplicates last",
        ),
        ("use a smaller `test_fraction=`", "use a smaller --test-fraction"),
        ("`reg=5`: too large", "--lambda 5: too large"),
        ('check `columns["user"]`', "check --user-col"),
        ("`lake`.`ratings` and d=5 stay", "`lake`.`ratings` and d=5 stay"),
    ],
)
def test_messages_of_the_library_name_options(message, said):
    assert in_options(message) == said
