"""The sweep's command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from als_spark.cli.config.settings import option_name
from als_spark.cli.config.sweep import CHOICES, SweepConfig
from als_spark.cli.options import SWEEP
from als_spark.errors import ConfigError

# For every field a value that is not the default, as it is typed and as it arrives.
TYPED = {
    "ratings": ("r.csv", "r.csv"),
    "table": ("lake.ratings", "lake.ratings"),
    "format": ("parquet", "parquet"),
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
    "accelerate": (None, True),
    "cold_start": ("drop", "drop"),
    "placement": ("grid", "grid"),
    "partitions": ("9", 9),
    "output": ("elsewhere", "elsewhere"),
}
FIELDS = [field.name for field in dataclasses.fields(SweepConfig)]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_every_field_has_an_option(field, form):
    text, value = TYPED[field]
    option = option_name(field)
    words = [option, text] if form == "two words" else [f"{option}={text}"]
    if text is None:  # a switch
        words = [option]
    config = SWEEP.parse(["--output", "out", *words], None)
    default = getattr(SweepConfig(output="out"), field)
    assert value != default
    assert getattr(config, field) == value
    assert type(getattr(config, field)) is type(value)
    # And it changes no other field.
    assert config == dataclasses.replace(SweepConfig(output="out"), **{field: value})


def test_no_options_but_the_fields_and_config():
    actions = {action.dest for action in SWEEP.parser(None)._actions}
    assert actions == {*FIELDS, "config", "help"}


def test_a_switch_of_the_file_can_be_turned_off(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text("accelerate = true\n")
    words = ["--output", "out", "--config", str(file)]
    assert SWEEP.parse(words, None).accelerate
    assert not SWEEP.parse([*words, "--no-accelerate"], None).accelerate


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_can_be_typed(field):
    for choice in CHOICES[field]:
        config = SWEEP.parse(["--output", "out", option_name(field), choice], None)
        assert getattr(config, field) == choice


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["--ranks", "1,x"], "argument --ranks: 'x' is not a whole number"),
        (["--ranks", "1.5"], "argument --ranks: '1.5' is not a whole number"),
        (["--lambdas", "1,two"], "argument --lambdas: 'two' is not a number"),
        (["--seed", "one"], "argument --seed: 'one' is not a whole number"),
        (["--max-iter", ""], "argument --max-iter: '' is not a whole number"),
        (["--tol", "small"], "argument --tol: 'small' is not a number"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--lambda", "1"], "unrecognized arguments: --lambda 1"),
        (["--out", "x"], "unrecognized arguments: --out x"),
        (["ratings.csv"], "unrecognized arguments: ratings.csv"),
    ],
)
def test_unusable_words(words, message, capsys):
    with pytest.raises(ConfigError) as info:
        SWEEP.parse(["--output", "out", *words], None)
    text = str(info.value)
    assert text.startswith(message)
    assert text.endswith(": see --help")
    assert "\n" not in text
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output is missing: give a folder for the results"),
        (["--output", "out", "--ranks", ","], r"--ranks \(\): not usable: give at least one rank"),
        (["--output", "out", "--ranks", "0"], "--ranks 0: not usable"),
        (["--output", "out", "--lambdas", "nan"], "--lambdas nan: not usable"),
        (["--output", "out", "--seed", "-1"], "--seed -1: not usable"),
        (["--output", "out", "--ratings", "a", "--table", "b"], "are both given"),
    ],
)
def test_unusable_values(words, message):
    with pytest.raises(ConfigError, match=message):
        SWEEP.parse(words, None)


def test_help(capsys):
    with pytest.raises(SystemExit) as info:
        SWEEP.parse(["--help"], Path("conf") / "sweep.toml")
    assert info.value.code == 0
    shown, complaints = capsys.readouterr()
    assert complaints == ""
    for field in FIELDS:
        assert f"{option_name(field)} " in shown
        for choice in CHOICES.get(field, ()):
            assert choice in shown
    assert "conf/sweep.toml" in "".join(shown.split())
    assert "Exit codes" in shown


def test_help_of_a_checkout_with_a_percent_sign(capsys):
    with pytest.raises(SystemExit):
        SWEEP.parse(["--help"], Path("100%s") / "sweep.toml")
    assert "100%s/sweep.toml" in "".join(capsys.readouterr().out.split())


class TestConfigFile:
    @pytest.fixture
    def default(self, tmp_path) -> Path:
        path = tmp_path / "default.toml"
        path.write_text("seed = 1\nmax_iter = 11\n")
        return path

    def test_the_default_file_is_read(self, default):
        config = SWEEP.parse(["--output", "out"], default)
        assert (config.seed, config.max_iter) == (1, 11)

    def test_an_option_wins_over_it(self, default):
        config = SWEEP.parse(["--output", "out", "--seed", "0"], default)
        assert (config.seed, config.max_iter) == (0, 11)

    def test_another_file_replaces_it(self, default, tmp_path):
        other = tmp_path / "other.toml"
        other.write_text("seed = 2\noutput = 'from-file'\n")
        config = SWEEP.parse(["--config", str(other)], default)
        assert (config.seed, config.max_iter, config.output) == (2, 1000, "from-file")

    def test_missing_file(self, default):
        with pytest.raises(ConfigError, match=r"--config nowhere\.toml: cannot be read"):
            SWEEP.parse(["--config", "nowhere.toml", "--output", "out"], default)


def test_words_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sweep", "--output", "out", "--seed", "4"])
    assert SWEEP.parse(None, None) == SweepConfig(output="out", seed=4)
