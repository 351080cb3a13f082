"""Plots of the benchmarks, in the hand of the sweep's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from als_spark.report.figures.drawing import new_figure, save_figure, tidy, titled

COLOURS = ("#2166AC", "#B2182B", "#E08214", "#5AAE61", "#762A83")


def draw_bars(
    panel: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float]], unit: str
) -> None:
    """Draw groups of bars, a colour for each series, the value above each bar."""
    width = 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        places = [g + (k - (len(series) - 1) / 2) * width for g in range(len(groups))]
        bars = panel.bar(places, values, 0.92 * width, color=COLOURS[k], label=name)
        panel.bar_label(bars, [_short(value) for value in values], fontsize=8.5, padding=2)
    panel.set_xticks(range(len(groups)), groups)
    panel.set_ylabel(unit)
    panel.margins(y=0.12)
    tidy(panel)


def draw_ratios(result: Mapping[str, Any], path: Path) -> None:
    """Draw what MLlib takes over what ours takes: set-up, iteration and fit, by rank and dress."""
    figure = new_figure(11.5, 4.6)
    body = titled(
        figure,
        "MLlib's ALS over als_spark: times as long",
        f"{result['ratings']:,} ratings, same rank, iterations and λ; from DataFrame to factors",
    )
    names = {"pip": "MLlib as pip installs it", "native": "MLlib with a native BLAS"}
    panels = body.subplots(1, 3)
    titles = {"setup": "set-up", "iteration": "one iteration", "fit_of_10": "fit of 10 iterations"}
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        dresses = result["dresses"]
        groups = [f"d = {row['rank']}" for row in next(iter(dresses.values()))["ranks"]]
        series = {
            names[dress]: [row["mllib_over_ours"][key] for row in found["ranks"]]
            for dress, found in dresses.items()
        }
        draw_bars(panel, groups, series, "times")
        panel.axhline(1, color="#555555", linewidth=0.8)
        panel.set_title(title, fontsize=11)
    _finish(figure, panels[0], 2, path)


def draw_shares(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the parts of an iteration's time, bare and on Spark."""
    figure = new_figure(9, 4.8)
    body = titled(
        figure,
        "An iteration's time, by what it is spent on",
        "the kernel's parts as profiled in one process; what Spark adds: over the bare kernel",
    )
    panel = body.subplots()
    groups = [f"d = {row['rank']}" for row in rows]
    bottom = [0.0] * len(rows)
    parts = [*rows[0]["shares"], "Spark"]
    for colour, part in zip(COLOURS, parts, strict=True):
        values = [
            row["spark_iteration"] - row["bare_iteration"]
            if part == "Spark"
            else row["shares"][part] * row["bare_iteration"]
            for row in rows
        ]
        bars = panel.bar(groups, values, 0.5, bottom=bottom, color=colour, label=part)
        panel.bar_label(
            bars, [_short(value) for value in values], label_type="center", color="white"
        )
        bottom = [a + b for a, b in zip(bottom, values, strict=True)]
    panel.set_ylabel("seconds")
    tidy(panel)
    _finish(figure, panel, 5, path)


def _finish(figure: Figure, panel: Axes, columns: int, path: Path) -> None:
    """Put the legend of a panel below the figure, and write it."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    save_figure(figure, path)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def draw_seconds(
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    key: str,
    title: str,
    path: Path,
) -> None:
    """Draw one time of several programs, by rank."""
    figure = new_figure(7.5, 4.4)
    panel = titled(figure, title, "seconds, all cores").subplots()
    groups = [f"d = {row['rank']}" for row in rows]
    series = {label: [row[name][key] for row in rows] for name, label in names.items()}
    draw_bars(panel, groups, series, "seconds")
    _finish(figure, panel, 3, path)


def draw_posterior(result: Mapping[str, Any], path: Path) -> None:
    """Draw what iterations of the Bayesian methods take over a ridge's, bare and on Spark."""
    figure = new_figure(11, 4.8)
    title = f"An iteration over a ridge's of the same rank, {result['ratings']:,} ratings"
    panel = titled(figure, title, "seconds of CPU, of all processes").subplots()
    names = [name for name in result["bare"] if not name.startswith("ridge, rank")]
    series = {
        label: [result[key][name]["cpu_over_ridge"] for name in names]
        for key, label in (("bare", "one process"), ("spark", "on Spark"))
    }
    draw_bars(panel, [name.replace(", ", ",\n", 1) for name in names], series, "times")
    _finish(figure, panel, 2, path)


def draw_overview(
    rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], n_ratings: int, path: Path
) -> None:
    """Draw the seconds of a look at ratings, by the format of the files."""
    figure = new_figure(7.5, 4.4)
    panel = titled(figure, f"A look at {n_ratings:,} ratings", "seconds, all cores").subplots()
    series = {label: [row["seconds"][name] for row in rows] for name, label in names.items()}
    draw_bars(panel, [row["format"] for row in rows], series, "seconds")
    _finish(figure, panel, 2, path)


def draw_accelerated(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw iterations and seconds to the same objective, plain and accelerated."""
    figure = new_figure(12, 6.4)
    body = titled(
        figure,
        "Plain and accelerated ALS, to the objective at which plain ALS stops",
        "one process, one thread",
    )
    groups = [
        f"{'ML' if 'MovieLens' in row['ratings'] else 'synthetic'}\nd = {row['rank']}\n"
        f"λ = {row['reg']:g}"
        for row in rows
    ]
    panels = body.subplots(2, 1)
    for panel, (key, unit) in zip(
        panels, (("iterations", "iterations"), ("seconds", "seconds")), strict=True
    ):
        series = {name: [row[name][key] for row in rows] for name in ("plain", "accelerated")}
        draw_bars(panel, groups, series, unit)
    _finish(figure, panels[0], 2, path)


def draw_growth(result: Mapping[str, Any], path: Path) -> None:
    """Draw the time of the phases and the peak memory against the number of ratings."""
    figure = new_figure(11, 4.6)
    body = titled(
        figure,
        f"Growth with the data, d = {result['rank']}",
        f"local mode, driver heap {result['driver_heap']}; slope 1 is proportional growth",
    )
    rows = result["sizes"]
    sizes = [row["ratings"] / 1e6 for row in rows]
    times, memory = body.subplots(1, 2)
    for colour, name in zip(COLOURS, rows[0]["phases"], strict=False):
        times.plot(sizes, [row["phases"][name] for row in rows], "o-", color=colour, label=name)
    times.plot(sizes, [row["iteration"] for row in rows], "s-", color=COLOURS[4], label="iteration")
    times.set_ylabel("seconds")
    for colour, name in zip(COLOURS, rows[0]["peak"], strict=False):
        label = name.replace("_", " ")
        memory.plot(
            sizes, [row["peak"][name] / 2**30 for row in rows], "o-", color=colour, label=label
        )
    memory.set_ylabel("peak resident memory, GB")
    for panel in (times, memory):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
        panel.minorticks_off()
        panel.set_xlabel("million ratings")
        tidy(panel)
        panel.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_recommended(result: Mapping[str, Any], path: Path) -> None:
    """Draw the seconds of MLlib's recommendations and of ours, by dress and rank."""
    figure = new_figure(8.5, 4.6)
    panel = titled(
        figure,
        f"The best {result['top']} items of every user",
        f"{result['users']:,} users, {result['items']:,} items, the same factors; all cores",
    ).subplots()
    rows = [(dress, row) for dress, found in result["dresses"].items() for row in found["ranks"]]
    groups = [f"{dress}\nd = {row['rank']}" for dress, row in rows]
    names = {
        "mllib": "MLlib",
        "ours": "als_spark",
        "ours_without_rated": "als_spark, rated pairs left out",
    }
    series = {label: [row["seconds"][name] for _, row in rows] for name, label in names.items()}
    draw_bars(panel, groups, series, "seconds")
    _finish(figure, panel, 3, path)


def draw_grid(result: Mapping[str, Any], path: Path) -> None:
    """Draw the whole grid's time: the notebook's loop, MLlib, and our command."""
    peers = {"notebook": "the notebook's loop", "mllib": "MLlib, point after point"}
    found = {name: result[name]["seconds"] for name in peers if name in result}
    figure = new_figure(7.5, 4.4)
    panel = titled(
        figure,
        "A grid of models, the whole of it",
        f"{result['ratings']}; als_spark: the whole command, Spark's start included",
    ).subplots()
    groups = [peers[name] for name in found]
    series = {
        "the peer": [seconds[name] for name, seconds in found.items()],
        "als_spark": [seconds["command"] for seconds in found.values()],
    }
    draw_bars(panel, groups, series, "seconds")
    _finish(figure, panel, 2, path)


def draw_estimator(result: Mapping[str, Any], path: Path) -> None:
    """Draw the program's time with either import, what the estimator costs, and the objectives."""
    figure = new_figure(11.5, 4.6)
    body = titled(
        figure,
        "als_spark.ALS in the place of MLlib's",
        f"{result['data']}, {result['ratings']:,} ratings; MLlib as pip installs it",
    )
    times, cost, quality = body.subplots(1, 3)
    validated, rows = result["cross_validation"], result["quality"]
    seconds = {name: [validated[name]["seconds"]] for name in ("mllib", "ours")}
    names = {"mllib": "MLlib", "ours": "als_spark"}
    draw_bars(times, ["cross-validation"], {names[k]: v for k, v in seconds.items()}, "seconds")
    draw_bars(
        cost,
        ["fit"],
        {name: [min(taken)] for name, taken in result["overhead"]["seconds"].items()},
        "seconds",
    )
    ratios = [row["objective_ours_over_mllib"] for row in rows]
    draw_bars(quality, [row["name"] for row in rows], {"ours over MLlib's": ratios}, "objective")
    quality.axhline(1, color="#555555", linewidth=0.8)
    cost.legend(frameon=False, fontsize=9)
    _finish(figure, times, 2, path)


def draw_implicit(result: Mapping[str, Any], path: Path) -> None:
    """Draw an iteration's time of everybody, and the ranking measures."""
    figure = new_figure(11.5, 4.6)
    body = titled(
        figure,
        "Implicit feedback: als_spark, MLlib and implicit",
        f"left: {result['ratings']:,} interactions; right: MovieLens latest-small, "
        f"rank {result['rankings']['rank']}, tuned on an inner part",
    )
    times, rankings = body.subplots(1, 2)
    dresses = result["dresses"]
    groups = [f"d = {row['rank']}" for row in result["implicit"]["ranks"]]
    first = next(iter(dresses.values()))["ranks"]
    series = {"als_spark": [row["ours"]["iteration"] for row in first]}
    for dress, found in dresses.items():
        series[f"MLlib, {dress}"] = [row["mllib"]["iteration"] for row in found["ranks"]]
    series["implicit"] = [row["iteration"] for row in result["implicit"]["ranks"]]
    draw_bars(times, groups, series, "seconds an iteration")
    times.legend(frameon=False, fontsize=9)
    top = result["rankings"]["top"]
    measures = {"ndcg": f"NDCG@{top}", "recall": f"recall@{top}", "map": f"MAP@{top}"}
    found = result["rankings"]["measures"]
    series = {name: [row["test"][key] for key in measures] for name, row in found.items()}
    draw_bars(rankings, list(measures.values()), series, "mean over users")
    _finish(figure, rankings, len(series), path)


def draw_lists(result: Mapping[str, Any], path: Path) -> None:
    """Draw NDCG of everybody's lists, for each way of holding out and group of users."""
    figure = new_figure(11.5, 4.6)
    body = titled(
        figure,
        "Lists: als_spark, implicit and the popular items",
        f"{result['data']}, rank {result['rank']}; the last {result['held_out']:.0%} held out, "
        "both tuned on the same inner part",
    )
    panels = body.subplots(1, len(result["cuts"]))
    for panel, (name, cut) in zip(panels, result["cuts"].items(), strict=True):
        groups = cut["groups"]
        labels = [f"{group}: {row['users']}" for group, row in groups.items()]
        series = {
            which: [row["ndcg"][which] for row in groups.values()]
            for which in next(iter(groups.values()))["ndcg"]
        }
        draw_bars(panel, labels, series, f"NDCG@{result['top']}")
        panel.set_title(name, fontsize=11)
    _finish(figure, panels[0], len(series), path)
