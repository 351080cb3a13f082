"""The shape of the package, read from its imports: layers, no cycles, light executors."""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import als_spark
from tests.conftest import ROOT

PACKAGE = ROOT / "als_spark"

# The layers from the ground up: a module imports from its own layer and from those above it in this
# list. A module belongs to the longest prefix of its name.
LAYERS = (
    ("redaction",),
    ("types", "errors"),
    ("files",),
    ("solve",),
    ("train",),
    ("model",),
    ("store",),
    # What trains says what it trains on; what prepares makes it.
    ("spark",),
    ("spark.read",),
    ("spark.train",),
    ("spark.prepare",),
    ("spark.predict",),
    ("report",),
    ("ml",),
    ("nightly",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# What executors import: NumPy, SciPy and Arrow alone.
NUMPY_LAYERS = ("redaction", "types", "errors", "solve", "train", "model")

ALLOWED_THIRD_PARTIES = {
    "": set(),
    "redaction": set(),
    "types": {"numpy"},
    "errors": set(),
    "files": set(),
    "solve": {"numpy", "scipy", "threadpoolctl"},
    "train": {"numpy", "scipy"},
    "model": {"numpy", "pyarrow"},
    "store": {"numpy", "pyarrow", "psutil", "pydantic"},
    "spark": {"numpy", "pyarrow", "pyspark", "py4j", "threadpoolctl", "scipy"},
    "ml": {"numpy", "pyarrow", "pyspark"},
    "report": {"jinja2", "matplotlib", "numpy", "tqdm"},
    "nightly": {"pyspark", "numpy", "pydantic", "mlflow"},
    "cli": {"pydantic", "pyspark", "numpy", "pyarrow"},
}

LONGEST = 500


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str:
    """The layer that a module belongs to: "" for the package itself."""
    below = module.removeprefix("als_spark").lstrip(".")
    while below and below not in LEVEL:
        below = below.rpartition(".")[0]
    return below


def third_parties_of(layer: str) -> set[str]:
    """What a layer may import of others; a folder of a layer may import what the layer may."""
    return ALLOWED_THIRD_PARTIES[layer.partition(".")[0]]


def imports_of(module: str) -> Iterator[tuple[str, str | None]]:
    """Every imported module, with the name taken from it; imports inside functions too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in MODULES:
                    yield submodule, None
                else:
                    yield node.module, alias.name


def own_imports(module: str) -> set[str]:
    """Imported modules of this package."""
    return {name for name, _ in imports_of(module) if name.split(".")[0] == "als_spark"}


def loaded_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after running some code."""
    report = "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return set(done.stdout.split())


def test_the_imports_are_read():
    # The test of the tests: known imports of each kind are found.
    assert "als_spark.solve.blocks" in own_imports("als_spark.solve.rows")
    assert "als_spark.report.figures.sweep" in own_imports("als_spark.cli.sweep")
    assert ("pyspark.sql", "DataFrame") in set(imports_of("als_spark.spark.prepare.prepare"))
    assert {layer_of(module) for module in MODULES} == {"", *LEVEL}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    layer = layer_of(module)
    for imported in own_imports(module):
        assert imported in MODULES, f"{module} imports {imported}, which is no module"
        # Only the programs name the version, which the package itself holds, and what a fit keeps.
        assert layer_of(imported) or layer in {"", "cli", "ml"}, imported
        if layer and layer_of(imported):
            assert LEVEL[layer_of(imported)] <= LEVEL[layer], imported


@pytest.mark.parametrize("module", MODULES)
def test_third_parties(module):
    others = {name.split(".")[0] for name, _ in imports_of(module)} - {"als_spark"}
    assert others - sys.stdlib_module_names <= third_parties_of(layer_of(module))


def test_no_cycles():
    graph = {module: own_imports(module) for module in MODULES}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_no_private_names_across_modules(module):
    taken = [
        f"{imported}.{name or ''}"
        for imported, name in imports_of(module)
        if imported.startswith("als_spark") and f".{imported}.{name}".count("._")
    ]
    assert taken == []


@pytest.mark.parametrize("module", MODULES)
def test_no_long_modules(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


class TestLoading:
    def test_executors_load_neither_pyspark_nor_matplotlib(self):
        names = [m for m in MODULES if layer_of(m) in NUMPY_LAYERS]
        loaded = loaded_after("\n".join(f"import {name}" for name in names))
        assert "als_spark.train.loop" in loaded
        assert loaded & {"pyspark", "py4j", "matplotlib", "pandas", "tqdm", "pydantic"} == set()

    def test_kernels_and_the_loop_do_not_load_arrow(self):
        names = [m for m in MODULES if layer_of(m) in ("solve", "train")]
        loaded = loaded_after("\n".join(f"import {name}" for name in names))
        assert "numpy" in loaded
        assert loaded & {"pyspark", "matplotlib", "pyarrow"} == set()

    def test_the_package_alone_loads_nothing(self):
        loaded = loaded_after("import als_spark")
        assert loaded & {"numpy", "scipy", "pyarrow", "pyspark", "matplotlib", "pydantic"} == set()
        assert {name for name in loaded if name.startswith("als_spark.")} == set()

    def test_programs_load_mlflow_only_to_log_a_run(self):
        loaded = loaded_after("import als_spark.nightly.tracking, als_spark.cli.sweep")
        assert "als_spark.nightly.tracking" in loaded
        assert "mlflow" not in loaded

    def test_reports_need_no_spark(self):
        names = [module for module in MODULES if layer_of(module) == "report"]
        loaded = loaded_after("\n".join(f"import {name}" for name in names))
        assert "als_spark.report.figures.sweep" in loaded
        assert loaded & {"pyspark", "py4j"} == set()

    def test_the_store_and_its_command_line_need_no_spark(self):
        names = [module for module in MODULES if layer_of(module) == "store"]
        names.append("als_spark.cli.store")
        loaded = loaded_after("\n".join(f"import {name}" for name in names))
        assert "als_spark.store.store" in loaded
        assert loaded & {"pyspark", "py4j", "matplotlib"} == set()


class TestPublicNames:
    @pytest.mark.parametrize("name", als_spark.__all__)
    def test_resolves(self, name):
        value = getattr(als_spark, name)
        assert getattr(value, "__name__", name) == name

    def test_no_name_twice(self):
        assert len(set(als_spark.__all__)) == len(als_spark.__all__)

    def test_unknown_name(self):
        with pytest.raises(AttributeError, match="module 'als_spark' has no attribute 'train_all'"):
            als_spark.train_all  # noqa: B018

    def test_they_are_listed(self):
        assert set(als_spark.__all__) <= set(dir(als_spark))

    def test_type_checkers_see_the_same_names(self):
        tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
        homes = {
            alias.asname: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name == alias.asname
        }
        declared = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
        assert {*homes, *declared} == {*als_spark.__all__, "__all__"}
        for name, home in homes.items():
            assert getattr(als_spark, name) is getattr(importlib.import_module(home), name), name

    def test_type_checkers_see_the_types(self, tmp_path):
        snippet = tmp_path / "snippet.py"
        snippet.write_text(
            "import als_spark\n"
            "reveal_type(als_spark.grid_specs)\n"
            "reveal_type(als_spark.load_model)\n"
            "reveal_type(als_spark.FactorModel)\n"
            "als_spark.train_all\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(snippet)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "-> list[als_spark.train.records.ModelSpec]" in done.stdout, (
            done.stdout + done.stderr
        )
        assert "-> als_spark.model.factor_model.FactorModel" in done.stdout
        assert "type[als_spark.model.factor_model.FactorModel]" in done.stdout or (
            "def (users: als_spark.model.ids" in done.stdout
        )
        assert 'Module has no attribute "train_all"' in done.stdout
        assert "Any" not in [line.split('"')[1] for line in done.stdout.splitlines()[:3]]

    def test_version_is_that_of_the_distribution(self):
        assert als_spark.__version__ == importlib.metadata.version("als-spark")
