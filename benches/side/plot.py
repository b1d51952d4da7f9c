"""Draws docs/performance.svg; run in the venv, which has matplotlib: plot.py RESULT SVG."""

import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "examgate"
import matplotlib.pyplot as plt  # noqa: E402

result = json.load(open(sys.argv[1], encoding="utf-8"))
names = [name for name in result["labels"] if name != "direct"]
labels = [result["labels"][name] for name in names]
colours = ["#c2571a" if name in ("sqlite", "postgres") else "#8a93a0" for name in names]
figure, axes = plt.subplots(1, 3 if "scale" in result else 2, figsize=(15 if "scale" in result else 11, 4))
for axis, key, title in zip(axes, ("rate", "cpuPer1000"), ("writes/s at saturation, one core", "CPU seconds per 1,000 writes")):
    figures = [[one["results"][name]["keyed"][key] for one in result["single"]] for name in names]
    middle = [statistics.median(values) for values in figures]
    spread = [[m - min(v) for m, v in zip(middle, figures)], [max(v) - m for m, v in zip(middle, figures)]]
    axis.barh(labels, middle, xerr=spread, color=colours, ecolor="#333333")
    axis.invert_yaxis()
    axis.set_title(title)
    axis.set_xlim(0, 1.18 * max(max(values) for values in figures))
    for row, value in enumerate(middle):
        axis.text(value + spread[1][row], row, f" {value:,.0f}" if key == "rate" else f" {value:.2f}", va="center", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
if "scale" in result:
    for vendor in ("startexam", "examtesting"):
        points = [one for one in result["scale"]["rows"] if one["vendor"] == vendor]
        axes[2].plot([one["rows"] for one in points], [one["seconds"] for one in points], "o-", label=vendor)
    axes[2].set(xscale="log", yscale="log", title="seconds for a bulk of so many rows", xlabel="rows")
    axes[2].legend()
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})
