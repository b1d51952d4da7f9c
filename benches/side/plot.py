"""Draws docs/performance.svg; run in the venv, which has matplotlib: plot.py RESULT SVG."""

import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "examgate"
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {"nothing": "#c9ced6", "outcomes": "#8a93a0", "promise": "#5b6675"}
KEEPS = {"nothing": "keeps nothing", "outcomes": "keeps outcomes, resends after a crash", "promise": "keeps the promise"}

result = json.load(open(sys.argv[1], encoding="utf-8"))
measured = {name for one in result["single"] for name in one["results"]}
# Neither of the two does the job: beside them nothing else would be visible.
names = [name for name in result["labels"] if name in measured - {"direct", "nginx"}]
labels = [result["labels"][name].strip("*") for name in names]
colours = ["#c2571a" if name in ("sqlite", "postgres") else COLOURS[result["keeps"][name]] for name in names]
figure, axes = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
for axis, path, title in ((axes[0], ("rate",), "keyed writes/s at saturation, one core"),
                          (axes[1], ("cpu", "all"), "CPU µs a keyed write, engine included")):
    figures = []
    for name in names:
        found = [one["results"][name]["keyed"] for one in result["single"] if name in one["results"]]
        for key in path:
            found = [value[key] for value in found]
        figures.append(found)
    middle = [statistics.median(values) for values in figures]
    spread = [[m - min(v) for m, v in zip(middle, figures)], [max(v) - m for m, v in zip(middle, figures)]]
    axis.barh(labels, middle, xerr=spread, color=colours, ecolor="#333333")
    axis.set_title(title)
    axis.set_xlim(0, 1.18 * max(max(values) for values in figures))
    for row, value in enumerate(middle):
        axis.text(value + spread[1][row], row, f" {value:,.0f}", va="center", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].invert_yaxis()
handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[kind], label=text) for kind, text in KEEPS.items()]
handles.append(plt.Rectangle((0, 0), 1, 1, color="#c2571a", label="examgate, keeps the promise"))
figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False)
figure.tight_layout(rect=(0, 0.06, 1, 1))
figure.savefig(sys.argv[2], metadata={"Date": None})
