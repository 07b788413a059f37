"""Takes a study; gives its pictures: one page with Optuna's interactive ones, and a PNG of each."""

import html
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speech_emotion.files import replacing, write_text

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

_LEGEND: Final = 12
"""Lines that a legend can tell apart."""


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
        _save(_drawn(getattr(still, f"plot_{name}"), study, options), folder / f"{name}.png", title)
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


def _save(drawn: Any, path: Path, title: str) -> None:
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.ticker import NullFormatter

    if drawn is None:
        return
    several = np.ravel(np.asarray(drawn, dtype=object))
    figure = several[0].figure
    figure.set_size_inches(max(9.0, 2.6 * len(several), 1.5 * len(figure.axes)), 5.5)
    for axes in figure.axes:
        # of the importances, Optuna's own title stands on the left
        axes.set_title("", loc="left")
        axes.set_xlabel(axes.get_xlabel().removeprefix("train.").replace("Step", "epochs, fold after fold"))
        axes.set_ylabel(axes.get_ylabel().replace("Intermediate Value", "validation UAR, mean over the folds so far"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelrotation=30 if len(figure.axes) > 2 else 0)
        if axes.get_legend() is not None and len(axes.lines) > _LEGEND:
            axes.get_legend().remove()
    if len(several) > 1:
        figure.suptitle(title, fontsize="large")
    else:
        several[0].set_title(title)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
    plt.close("all")


def _quiet() -> Any:
    return warnings.catch_warnings(action="ignore")
