"""Takes a study; gives its pictures: one page with Optuna's interactive ones, and a PNG of each in our own style."""

import html
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.core.io import replacing, write_text

if TYPE_CHECKING:
    from optuna import Study
    from optuna.importance import BaseImportanceEvaluator

TITLES: Final = {
    "optimization_history": "Best so far",
    "param_importances": "What decides: importances of the parameters (fANOVA)",
    "parallel_coordinate": "Every trial as a line",
    "slice": "Each parameter by itself",
    "intermediate_values": "Validation UAR by epoch, over all folds",
    "timeline": "When each trial ran",
    "pareto_front": "The Pareto front",
}
"""Optuna's pictures, by the names of its functions."""

_SHOWN: Final = 6
"""Parameters that a picture on paper has room for, those that decide most; the page has them all."""

_ENDS: Final = {
    "complete": "completed",
    "pruned": "pruned: too poor to go on",
    "fail": "failed or interrupted",
    "running": "still running",
    "waiting": "waiting",
    "infeasible": "not allowed",
}
"""How a trial ended, in words, by Optuna's."""


def draw(study: "Study", folder: Path, *, page: Path, found: Mapping[str, float]) -> None:
    """Draw what the study has enough trials for.

    Parameters
    ----------
    study : optuna.Study
    folder : Path
        Of the PNGs; it exists.
    page : Path
        The HTML file, of some megabytes.
    found : mapping of str to float
        The importances, as `importances` gives them.

    Notes
    -----
    The page holds plotly's program itself, once, so that it needs no network.
    """
    import optuna.visualization as interactive
    import optuna.visualization.matplotlib as still
    import plotly.offline

    parts = []
    most = list(found)[:_SHOWN]
    for name, title in _possible(study).items():
        options = _options(study, name, found)
        figure = _drawn(getattr(interactive, f"plot_{name}"), study, options)
        if figure is None:
            continue
        body = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name)
        parts.append(f"<h2>{html.escape(title)}</h2>\n{body}")
        if most and name in {"parallel_coordinate", "slice"}:
            options, title = options | {"params": most}, f"{title}: the {len(most)} that decide most"
        with _our_style():
            drawn = _drawn(getattr(still, f"plot_{name}"), study, options)
            if drawn is not None:
                _save(drawn, study, name, options, folder / f"{name}.png", title)
    script = plotly.offline.get_plotlyjs()
    name = html.escape(study.study_name)
    head = f'<!doctype html>\n<meta charset="utf-8">\n<title>{name}</title>\n<h1>{name}</h1>\n'
    write_text(page, f"{head}<script>{script}</script>\n" + "\n".join(parts) + "\n")


def importances(study: "Study", *, seed: int) -> dict[str, float]:
    """Return how much each parameter decides the UAR, the greatest first; empty where there are too few trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    evaluator = FanovaImportanceEvaluator(seed=seed)
    try:
        with _quiet():
            return dict(get_param_importances(study, evaluator=evaluator, target=_uar(study)))
    except (ValueError, RuntimeError):
        return {}


def _possible(study: "Study") -> dict[str, str]:
    left_out = {"pareto_front"} if len(study.directions) == 1 else {"intermediate_values"}
    return {name: title for name, title in TITLES.items() if name not in left_out}


def _options(study: "Study", name: str, found: Mapping[str, float]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if name in {"optimization_history", "param_importances", "parallel_coordinate", "slice"}:
        options = {"target": _uar(study), "target_name": "UAR"}
    if name == "param_importances":
        options["evaluator"] = _known(found)
    return options


def _known(found: Mapping[str, float]) -> "BaseImportanceEvaluator":
    """Return what tells Optuna's pictures the importances that were computed before, once."""
    from optuna.importance import BaseImportanceEvaluator

    class Known(BaseImportanceEvaluator):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            if not found:
                raise ValueError("too few trials")
            return dict(found)

    return Known()


def _uar(study: "Study") -> Callable[[Any], float] | None:
    # with one objective Optuna knows what to draw, and which way is up
    return None if len(study.directions) == 1 else lambda trial: trial.values[0]


def _drawn(plot: Callable[..., Any], study: "Study", options: dict[str, Any]) -> Any:
    """Return a picture; None where the study has too few trials for it."""
    import matplotlib

    matplotlib.use("Agg")
    try:
        with _quiet():
            return plot(study, **options)
    except (ValueError, RuntimeError):
        return None


@contextmanager
def _our_style() -> Iterator[None]:
    """Have Optuna, which asks matplotlib for its style by name, draw in that of `figures`."""
    import matplotlib
    import matplotlib.pyplot as plt

    from speech_emotion.evaluation.plots import STYLE

    theirs = plt.style.library["ggplot"]
    plt.style.library["ggplot"] = matplotlib.RcParams(STYLE)
    try:
        with plt.rc_context(STYLE):
            yield
    finally:
        plt.style.library["ggplot"] = theirs
        plt.close("all")


def _save(drawn: Any, study: "Study", name: str, options: Mapping[str, Any], path: Path, title: str) -> None:
    import numpy as np

    panels = list(np.ravel(np.asarray(drawn, dtype=object)))
    figure = panels[0].figure
    figure.set_layout_engine("constrained")
    figure.set_size_inches(max(9.0, 1.9 * len(panels)), 5.0)
    for axes in panels:
        # of the importances, Optuna's own title stands on the left
        axes.set_title("", loc="left")
        axes.set_title("")
        axes.tick_params(labelsize="small")
    _recolour(figure)
    finish = {
        "optimization_history": _finish_history,
        "param_importances": _finish_importances,
        "parallel_coordinate": _finish_parallel,
        "slice": _finish_slice,
        "intermediate_values": _finish_intermediate,
        "timeline": _finish_timeline,
        "pareto_front": _finish_front,
    }.get(name)
    if finish is not None:
        finish(panels, study, options)
    figure.suptitle(title)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})


def _recolour(figure: Any) -> None:
    """Give what has one of Optuna's colours one that readers with any colour vision tell from the others."""
    from matplotlib.colors import to_hex

    from speech_emotion.evaluation.plots import COLOURS

    blue, vermilion, green, _, orange, *_ = COLOURS
    ours = {"#1f77b4": blue, "#d62728": vermilion, "#ff7f0e": orange, "#2ca02c": green, "#3182bd": blue}
    legends = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    for axes in figure.axes:
        for line in axes.lines:
            line.set_color(ours.get(to_hex(line.get_color()), line.get_color()))
        for dots in axes.collections:
            faces = {to_hex(face) for face in dots.get_facecolor()} if dots.get_array() is None else set()
            if len(faces) == 1 and (found := ours.get(faces.pop())):
                dots.set_color(found)
    for patch in [patch for axes in figure.axes for patch in axes.patches] + [
        patch for legend in legends for patch in legend.get_patches()
    ]:
        found = ours.get(to_hex(patch.get_facecolor()))
        if found:
            patch.set_color(found)


def _finish_history(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    (axes,) = panels
    axes.get_legend().remove()
    for line in axes.lines:
        line.set(drawstyle="steps-post", alpha=1.0, label="the best so far")
    for dots in axes.collections[:1]:
        dots.set_label("a trial that was completed")
    axes.set_xlabel("trial")
    axes.legend(loc="lower right")


def _finish_importances(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    (axes,) = panels
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    axes.set_yticks(axes.get_yticks(), [_short(text.get_text()) for text in axes.get_yticklabels()])
    axes.set(xlabel="importance; all together are 1", ylabel="")
    axes.grid(visible=False, axis="y")
    for text in axes.texts:
        text.set(text=f" {text.get_text()}", fontsize="small")


def _finish_parallel(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FixedLocator

    first, *others = [axes for axes in panels[0].figure.axes if axes.get_label() != "<colorbar>"]
    # Optuna cuts long names, and so makes some of them alike
    names = sorted(options.get("params") or {name for trial in study.get_trials() for name in trial.params})
    places = first.get_xticks()
    labels = [text.get_text() for text in first.get_xticklabels()]
    if len(labels) == len(names) + 1:
        labels[1:] = [_short(name).replace(".", ".\n") for name in names]
    first.set_xticks(places, labels, rotation=0, ha="center")
    first.set_ylabel("")
    for axes in (first, *others):
        axes.grid(visible=False)
        axes.tick_params(axis="y", which="both", labelsize="small")
        if axes.get_yscale() == "log":
            _plain(axes.yaxis)
    for axes in others:
        axes.spines["left"].set_visible(False)
        axes.spines["right"].set_visible(True)
        for text in axes.get_yticklabels():
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        if isinstance(axes.yaxis.get_major_locator(), FixedLocator):  # of choices; other ticks can lie beyond the axis
            axes.set_yticks(axes.get_yticks(), [_broken(text.get_text()) for text in axes.get_yticklabels()])
            axes.get_yticklabels()[0].set_verticalalignment("bottom")
            axes.get_yticklabels()[-1].set_verticalalignment("top")
    for lines in first.collections:
        lines.set(cmap="cividis_r", alpha=0.8, linewidth=1.2)


def _finish_slice(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    from matplotlib.category import StrCategoryLocator

    for axes in panels:
        axes.set_title(_short(axes.get_xlabel()).replace(".", ".\n"), fontsize="medium")
        axes.set_xlabel("")
        if axes.get_xscale() == "log":
            _plain(axes.xaxis)
        else:
            low, high = axes.get_xlim()
            axes.set_xlim(low - 0.08 * (high - low), high + 0.08 * (high - low))
        if isinstance(axes.xaxis.get_major_locator(), StrCategoryLocator):
            axes.set_xticks(axes.get_xticks(), [_broken(text.get_text()) for text in axes.get_xticklabels()])
        axes.tick_params(axis="x", labelrotation=90)
        for dots in axes.collections:
            dots.set(cmap="cividis_r", edgecolors="white", linewidths=0.4)
    panels[0].figure.axes[-1].set_ylabel("trial")


def _finish_intermediate(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    from optuna.trial import TrialState

    from speech_emotion.evaluation.plots import COLOURS

    (axes,) = panels
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    trials = {f"Trial{trial.number}": trial for trial in study.get_trials(deepcopy=False)}
    complete = [trial for trial in trials.values() if trial.state == TrialState.COMPLETE]
    best = study.best_trial.number if complete else None
    named: set[str] = set()
    for line in axes.lines:
        trial = trials[str(line.get_label())]
        if trial.number == best:
            kind, colour, width, order = "the best trial", COLOURS[1], 2.2, 5
        elif trial.state == TrialState.COMPLETE:
            kind, colour, width, order = "completed", COLOURS[0], 0.9, 4
        else:
            kind, colour, width, order = "pruned or cut off", "#888888", 0.9, 3
        line.set(color=colour, linewidth=width, zorder=order, alpha=1.0 if kind == "the best trial" else 0.5)
        line.set(label="_" if kind in named else kind, markersize=4)
        named.add(kind)
    axes.set(xlabel="epochs, fold after fold", ylabel="validation UAR, mean over the folds so far")
    axes.legend(loc="lower right")


def _finish_timeline(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    (axes,) = panels
    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(axis="x", labelrotation=0)
    for text in axes.get_xticklabels():
        text.set_horizontalalignment("center")
    axes.set(xlabel="time", ylabel="trial")
    handles = axes.get_legend().get_patches() if axes.get_legend() is not None else []
    for patch, text in zip(handles, axes.get_legend().get_texts() if handles else [], strict=True):
        patch.set_label(_ENDS.get(text.get_text().lower(), text.get_text().lower()))
    axes.legend(handles=handles, loc="upper left")


def _finish_front(panels: Sequence[Any], study: "Study", options: Mapping[str, Any]) -> None:
    (axes,) = panels
    axes.set(xlabel=axes.get_xlabel().replace("uar", "UAR"))
    for dots in axes.collections:
        dots.set_label("on the front" if "Best" in str(dots.get_label()) else "a trial")
    axes.legend(loc="best")


def _plain(axis: Any) -> None:
    """Name the ticks of a logarithmic axis as params.yaml would have them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _broken(value: str) -> str:
    return value.strip("'").replace(" and ", " and\n")


def _short(name: str) -> str:
    return name.removeprefix("train.")


def _quiet() -> Any:
    return warnings.catch_warnings(action="ignore")
