"""The sweep's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import option_name, option_types
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.options import job_parser, parse
from als_spark.errors import ConfigError

# For every field a value that is not the default, as it is typed and as it arrives.
TYPED = {
    "ratings": ("r.csv", "r.csv"),
    "table": ("lake.ratings", "lake.ratings"),
    "format": ("parquet", "parquet"),
    "encoding": ("utf-16", "utf-16"),
    "quoting": ("none", "none"),
    "null_words": ("-", ("-",)),
    "user_col": ("u", "u"),
    "item_col": ("i", "i"),
    "rating_col": ("r", "r"),
    "timestamp_col": ("t", "t"),
    "test": ("t.csv", "t.csv"),
    "bad_rows": ("drop", "drop"),
    "duplicates": ("last", "last"),
    "split": ("time", "time"),
    "test_fraction": ("0.3", 0.3),
    "validation_fraction": ("1e-1", 0.1),
    "ranks": ("2, 3,10", (2, 3, 10)),
    "lambdas": ("0.5,1e-3,4", (0.5, 1e-3, 4.0)),
    "exponent": ("1", 1.0),
    "tol": ("1e-4", 1e-4),
    "max_iter": ("12", 12),
    "seed": ("7", 7),
    "dtype": ("float64", "float64"),
    "judge": ("ndcg", "ndcg"),
    "top": ("5", 5),
    "relevant_from": ("4", 4.0),
    "ranking_users": ("100", 100),
    "accelerate": (None, True),
    "implicit": (None, True),
    "alpha": ("40", 40.0),
    "nonnegative": (None, True),
    "method": ("sample", "sample"),
    "noise": ("shared", "shared"),
    "covariance": ("diagonal", "diagonal"),
    "implicit_features": ("5", 5),
    "feature_ridge": ("9", 9.0),
    "burn_in": ("5", 5),
    "samples": ("9", 9),
    "refit": (None, True),
    "cold_start": ("drop", "drop"),
    "placement": ("grid", "grid"),
    "partitions": ("9", 9),
    "exchange": ("shuffle", "shuffle"),
    "output": ("elsewhere", "elsewhere"),
    "checkpoint": ("kept", "kept"),
    "checkpoint_every": ("5", "5"),
    "restart": (None, True),
    "plan": (None, True),
    "counts": ("users=9,items=9,ratings=9", "users=9,items=9,ratings=9"),
    "cluster": ("executors=1,cores=1,memory=1g", "executors=1,cores=1,memory=1g"),
    "as_json": (None, True),
}
NEEDED = {
    "alpha": {"implicit": True},
    "noise": {"method": "variational"},
    "covariance": {"method": "variational"},
    "feature_ridge": {"implicit_features": 5},
    "burn_in": {"method": "sample"},
    "samples": {"method": "sample"},
    **{name: {"plan": True} for name in ("counts", "cluster", "as_json")},
}
"""Options without which another has no effect."""
NEEDS_CHECKPOINT = ("checkpoint_every", "restart")
FIELDS = list(SweepConfig.model_fields)
CHOICES = {name: kind.words for name, kind in option_types(SweepConfig).items() if kind.words}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_every_field_has_an_option(field, form):
    text, value = TYPED[field]
    option = option_name(field)
    words = [option, text] if form == "two words" else [f"{option}={text}"]
    if text is None:  # a switch
        words = [option]
    more: dict[str, object] = dict(NEEDED.get(field, {}))
    for name, other in more.items():
        words += [option_name(name), *([] if other is True else [str(other)])]
    if field in NEEDS_CHECKPOINT:
        more["checkpoint"] = "kept"
        words += ["--checkpoint", "kept"]
    config = parse(SweepConfig, ["--output", "out", *words])
    default = getattr(SweepConfig(output="out"), field)
    assert value != default
    assert getattr(config, field) == value
    assert type(getattr(config, field)) is type(value)
    # And it changes no other field.
    assert config == SweepConfig(**{"output": "out", field: value, **more})


def test_no_options_but_the_fields_and_config():
    actions = {action.dest for action in job_parser(SweepConfig)._actions}
    assert actions == {*FIELDS, "config", "help"}


def test_a_switch_of_the_file_can_be_turned_off(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text("accelerate = true\n")
    words = ["--output", "out", "--config", str(file)]
    assert parse(SweepConfig, words).accelerate
    assert not parse(SweepConfig, [*words, "--no-accelerate"]).accelerate


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_can_be_typed(field):
    for choice in CHOICES[field]:
        of_prior = {"noise", "covariance", "prior"} & {field, choice}
        more = ["--method", "variational"] if of_prior else []
        config = parse(SweepConfig, ["--output", "out", option_name(field), choice, *more])
        assert getattr(config, field) == choice


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed"], "argument --seed: expected one argument"),
        (["--lambda", "1"], "unrecognized arguments: --lambda 1"),
        (["--out", "x"], "unrecognized arguments: --out x"),
        (["ratings.csv"], "unrecognized arguments: ratings.csv"),
    ],
)
def test_unusable_words(words, message, capsys):
    with pytest.raises(ConfigError) as info:
        parse(SweepConfig, ["--output", "out", *words])
    text = str(info.value)
    assert text.startswith(message)
    assert text.endswith(": see --help")
    assert "\n" not in text
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output is missing: give a folder for the results"),
        (["--output", "out", "--ranks", ","], "--ranks is empty: give at least one, such as 5"),
        (["--output", "out", "--format", "xml"], "--format xml: not usable: use one of auto, csv"),
        (["--output", "out", "--ranks", "1,x"], "--ranks x: not usable: use whole numbers from 1"),
        (["--output", "out", "--ranks", "1.5"], r"--ranks 1\.5: not usable: use whole numbers"),
        (["--output", "out", "--lambdas", "1,two"], "--lambdas two: not usable: use finite numb"),
        (["--output", "out", "--seed", "one"], "--seed one: not usable: use a whole number from"),
        (["--output", "out", "--max-iter", "x"], "--max-iter x: not usable: use a whole number of"),
        (["--output", "out", "--tol", "small"], "--tol small: not usable: use a finite number of"),
        (["--output", "out", "--ranks", "0"], "--ranks 0: not usable"),
        (["--output", "out", "--lambdas", "nan"], "--lambdas nan: not usable"),
        (["--output", "out", "--seed", "-1"], "--seed -1: not usable"),
        (["--output", "out", "--ratings", "a", "--table", "b"], "are both given"),
    ],
)
def test_unusable_values(words, message):
    with pytest.raises(ConfigError, match=message) as info:
        parse(SweepConfig, words)
    assert "\n" not in str(info.value)


def test_help(capsys):
    with pytest.raises(SystemExit) as info:
        parse(SweepConfig, ["--help"])
    assert info.value.code == 0
    shown, complaints = capsys.readouterr()
    assert complaints == ""
    for field in FIELDS:
        assert f"{option_name(field)} " in shown
        for choice in CHOICES.get(field, ()):
            assert choice in shown
    assert "conf/sweep.toml" in "".join(shown.split())
    assert "Exit codes" in shown


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit):
        parse(SweepConfig, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("share to test on (default: 0.2)", "ranks d (default: 1,5,20,50; 4,8,16 with"):
        assert text in shown
    assert "of the split and the start (default: 0)" in shown
    assert "(default: False)" not in shown
    assert "(default: None)" not in shown


def test_help_names_options_and_no_parameters(capsys):
    with pytest.raises(SystemExit):
        parse(RetrainConfig, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "as a share; --force begins anew (default: 0.2)" in shown
    assert "--range-slack RATING" in shown
    assert "--max-shrink SHARE" in shown
    assert "`" not in shown


def test_help_of_a_checkout_with_a_percent_sign(capsys, monkeypatch):
    monkeypatch.setattr(SweepConfig, "defaults", Path("100%s") / "sweep.toml")
    with pytest.raises(SystemExit):
        parse(SweepConfig, ["--help"])
    assert "100%s/sweep.toml" in "".join(capsys.readouterr().out.split())


class TestConfigFile:
    @pytest.fixture(autouse=True)
    def default(self, tmp_path, monkeypatch) -> Path:
        path = tmp_path / "default.toml"
        path.write_text("seed = 1\nmax_iter = 11\n")
        monkeypatch.setattr(SweepConfig, "defaults", path)
        return path

    def test_the_default_file_is_read(self):
        config = parse(SweepConfig, ["--output", "out"])
        assert (config.seed, config.max_iter) == (1, 11)

    def test_an_option_wins_over_it(self):
        config = parse(SweepConfig, ["--output", "out", "--seed", "0"])
        assert (config.seed, config.max_iter) == (0, 11)

    def test_another_file_replaces_it(self, tmp_path):
        other = tmp_path / "other.toml"
        other.write_text("seed = 2\noutput = 'from-file'\n")
        config = parse(SweepConfig, ["--config", str(other)])
        assert (config.seed, config.max_iter, config.output) == (2, 1000, "from-file")

    def test_missing_file(self):
        with pytest.raises(ConfigError, match=r"--config nowhere\.toml: cannot be read"):
            parse(SweepConfig, ["--config", "nowhere.toml", "--output", "out"])


def test_words_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sweep", "--output", "out", "--seed", "4"])
    assert parse(SweepConfig, None) == SweepConfig(output="out", seed=4)
