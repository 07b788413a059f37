"""Write the model card (Mitchell et al., 2019, "Model cards for model reporting").

Every figure comes from the evidence in the package. Equal values give equal text.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2

from speech_emotion.config.data import CorpusName
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.features.mfcc import names
from speech_emotion.models.package import Description

CARD: Final = "MODEL_CARD.md"
"""File name in a package."""

TEMPLATE: Final = "model_card.md.j2"

ROBUSTNESS: Final = "robustness"
"""Name of the robustness results in the evidence of a package."""

Evidence = Mapping[str, Mapping[str, Any]]
"""The metrics of each protocol, as in metrics.json, and the robustness results."""

QUESTIONS: Final[Mapping[str, str]] = {
    "speaker": "an unseen speaker",
    "word": "unseen words of seen speakers",
    "random": "other recordings of seen speakers and words",
    "full": "the validation part",
}
"""What each protocol evaluates, the most important first."""

_OPERATIONS_PER_JOULE: Final = 1e9


@dataclass(frozen=True)
class Training:
    """The cost of a training.

    Attributes
    ----------
    epochs : int
    weights : int
        Number of trained weights.
    frames : int
        Number of frames of the training part.
    """

    epochs: int
    weights: int
    frames: int

    @property
    def operations(self) -> float:
        """Floating-point operations: six per weight and frame (Kaplan et al., 2020)."""
        return 6.0 * self.weights * self.frames * self.epochs

    @property
    def watt_hours(self) -> float:
        """Energy at 10^9 operations per joule, about what LSTM layers reach on a desktop processor."""
        return self.operations / _OPERATIONS_PER_JOULE / 3600


def as_trained(folder: Path) -> Training:
    """Read the cost of a training from its training.json.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        return Training(epochs=int(record["epochs"]), weights=int(record["weights"]), frames=int(record["frames"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / 'training.json'}: is missing or damaged. Run `dvc repro`.") from None


def read_evidence(protocols: Path, robustness: Path) -> dict[str, dict[str, Any]]:
    """Read the evidence of a package.

    Parameters
    ----------
    protocols : Path
        Folder of the protocols' reports.
    robustness : Path
        Folder of table.csv.

    Returns
    -------
    dict
        Metrics by protocol and, as `ROBUSTNESS`, UAR and drop by protocol and condition.
    """
    # a killed evaluate leaves a folder that begins with a dot
    evidence: dict[str, dict[str, Any]] = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(protocols.glob("[!.]*/metrics.json"))
    }
    with open(robustness / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    evidence[ROBUSTNESS] = {}
    for row in rows:
        figures = {"uar": float(row["uar"]), "drop": float(row["drop"])}
        evidence[ROBUSTNESS].setdefault(row["protocol"], {})[row["condition"]] = figures
    return evidence


def write(description: Description, evidence: Evidence, *, kind: CorpusName, training: Training) -> str:
    """Return the model card as Markdown.

    Parameters
    ----------
    description : Description
        Of the package.
    evidence : mapping of str to mapping
        From `read_evidence`.
    kind : {"tess", "demo", "folder"}
        Determines the texts about the data.
    training : Training
    """
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["words"] = _words
    source = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    ordered = _ordered(evidence)
    return environment.from_string(source).render(
        description=description,
        findings=findings(description, evidence),
        corpus=_CORPORA[kind],
        features=len(names(description.features)),
        frame_ms=1000 * description.features.hop_length / description.features.sample_rate,
        training=training,
        intended=_INTENDED,
        limits=limits(kind),
        ethics=_ETHICS,
        metrics=[
            [name, QUESTIONS.get(name, ""), *(_with_interval(report["mean"], metric) for metric in _METRICS)]
            for name, report in ordered
        ],
        recalls=[
            [name, "" if fold == "all" else fold, *(_recall(scores["recall"], one) for one in description.labels)]
            for name, report in ordered
            for fold, scores in report["folds"].items()
        ],
        robustness=[
            [name, condition, f"{figures['uar']:.3f}", f"{figures['drop']:.3f}"]
            for name, conditions in evidence.get(ROBUSTNESS, {}).items()
            for condition, figures in conditions.items()
        ],
    )


@dataclass(frozen=True)
class Finding:
    """A main result.

    Attributes
    ----------
    question : str
    value : str
        The figure that answers it.
    text : str
        What the figure is.
    notes : list of str
        Sentences.
    """

    question: str
    value: str
    text: str
    notes: list[str]


def findings(description: Description, evidence: Evidence) -> list[Finding]:
    """Answer how good the model is, for whom, and how far its confidence can be trusted.

    The most important protocol of the evidence is reported: an unseen speaker, if there is one.
    """
    [(name, report), *others] = _ordered(evidence)
    mean, folds = report["mean"], report["folds"]
    seen = next((one for one in others if one[0] != "full"), None)
    chance = f"Guessing reaches {_percent(1 / len(description.labels))}."
    label, recalls = worst_emotion(report)
    good, confident = [f"95 % interval {_interval(mean, 'uar')}.", chance], [f"95 % interval {_interval(mean, 'ece')}."]
    whom = [f"Lowest recall: {_words(label)}, {_by_fold(recalls)}."]
    if name == "speaker":
        good.append(f"The interval covers the words of {len(folds)} speakers, not the difference between speakers.")
        whom.insert(0, f"Unseen speaker: {_by_fold({key: fold['uar'] for key, fold in folds.items()})}.")
    else:
        whom.append("The corpus has no protocol for unseen speakers.")
    if name == "speaker" and seen is not None:
        confident.append(f"Seen speakers: {_points(seen[1]['mean']['ece'])}.")
    first = seen if name == "speaker" and seen is not None else (name, report)
    return [
        Finding("How good?", _percent(mean["uar"], 1), f"UAR on {QUESTIONS[name]}", good),
        Finding("For whom?", _percent(first[1]["mean"]["uar"], 1), f"UAR on {QUESTIONS[first[0]]}", whom),
        Finding(
            "How confident?",
            _points(mean["ece"]),
            f"gap between confidence and accuracy (ECE) on {QUESTIONS[name]}",
            [*confident, *_above_threshold(folds)],
        ),
    ]


def caveat(kind: CorpusName) -> str:
    """Return the one limit of the data that matters most, as Markdown."""
    return _CORPORA[kind].short


def limits(kind: CorpusName) -> str:
    """Return what the model is not for and what its corpus cannot support, as Markdown."""
    return f"{_NOT_INTENDED}\n\n{_CORPORA[kind].limits}"


def worst_emotion(report: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the label of the lowest mean recall over a protocol's folds, and its recall in each."""
    folds = {name: fold["recall"] for name, fold in report["folds"].items()}
    labels = sorted({label for recalls in folds.values() for label in recalls})

    def mean(label: str) -> float:
        found = [recalls[label] for recalls in folds.values() if label in recalls]
        return sum(found) / len(found)

    worst = min(labels, key=mean)
    return worst, {name: recalls[worst] for name, recalls in folds.items() if worst in recalls}


def _above_threshold(folds: Mapping[str, Any]) -> list[str]:
    """Return coverage and risk at the threshold of "not sure", as a sentence, if there is a threshold."""
    found = {name: fold["rejection"] for name, fold in folds.items() if fold.get("rejection")}
    if not found:
        return []
    risks = {name: one["risk"] for name, one in found.items() if one["risk"] is not None}
    wrong = f"; of these, {_by_fold(risks)} are wrong" if risks else ""
    return [
        f"Predictions above the threshold: {_by_fold({key: one['coverage'] for key, one in found.items()})}{wrong}."
    ]


def _ordered(evidence: Evidence) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the protocols, the most important first."""
    order = list(QUESTIONS)
    protocols = [(name, report) for name, report in evidence.items() if name != ROBUSTNESS]
    return sorted(protocols, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _with_interval(mean: Mapping[str, Any], metric: str) -> str:
    return f"{mean[metric]:.3f} ({Interval.from_list(mean['interval'][metric]).text()})"


def _recall(recalls: Mapping[str, float], label: str) -> str:
    return f"{recalls[label]:.2f}" if label in recalls else ""


def _by_fold(values: Mapping[str, float]) -> str:
    if len(values) > 4:
        return f"{_percent(min(values.values()))} to {_percent(max(values.values()))}"
    if len(values) == 1:
        return _percent(next(iter(values.values())))
    return " and ".join(f"{_percent(value)} ({name})" for name, value in values.items())


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def _points(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}points"


def _interval(mean: Mapping[str, Any], metric: str) -> str:
    """Return an interval in percent, without the sign."""
    return Interval.from_list(mean["interval"][metric]).text(".1%").replace("%", "")


def _words(label: str) -> str:
    return label.replace("_", " ")


_METRICS: Final = ("uar", "accuracy", "macro_f1", "nll", "brier", "ece")

_INTENDED: Final = (
    "Research and teaching: how speech emotion recognition is built, tracked, evaluated and served, and how far its "
    "figures can be trusted. A baseline for the same protocols."
)

_NOT_INTENDED: Final = (
    "No decisions about people: not in hiring, at work, at school, in policing, at borders, in insurance, credit or "
    "health care, and no analysis of people who do not know of it. In the European Union, systems that infer emotions "
    "at work and in education are prohibited (Regulation 2024/1689, article 5). A prediction does not say what "
    "a person feels."
)

_ETHICS: Final = (
    "An expression is not a feeling: people express the same feeling differently, by person, culture and situation "
    "(Barrett et al., 2019). A model trained on few speakers is worse for all others, and its answer does not show for "
    "whom. Recordings of speech are personal data; prediction keeps none."
)


@dataclass(frozen=True)
class _Corpus:
    """The texts about a kind of corpus."""

    short: str
    limits: str
    data: str
    licence: str


_CORPORA: Final[Mapping[CorpusName, _Corpus]] = {
    "tess": _Corpus(
        short="**The data is two actresses and one carrier phrase.** It supports no claim about other people, other "
        "sentences or felt emotion.",
        limits="What this corpus cannot support:\n"
        "* **Other people.** Two women from the Toronto area, native speakers of English, 64 and 26 years old. No men, "
        "no children, no other accent or language.\n"
        "* **Felt emotion.** Both acted each emotion on demand, 200 times.\n"
        "* **Free speech.** Every recording is “Say the word …” and one word, the same words with every emotion.\n"
        "* **Rooms, telephones, noise, crosstalk.** All recordings are quiet and close; level and duration alone "
        "predict many of the emotions.\n"
        "* **Other or mixed emotions.** Seven labels, one per recording; one of them is always predicted.\n"
        "* **Unbiased figures for an unseen speaker.** The recipe was found with the left-out actress seen, so they "
        "are optimistic. `docs/experiments.md` and `docs/test-set-evaluations.csv` list every test-set evaluation.",
        data="The Toronto emotional speech set (TESS): 2,800 recordings, 96 minutes, two actresses, seven emotions, "
        "200 words each; see `docs/data-sheet.md`.",
        licence="Weights: CC BY-NC 4.0, non-commercial; see `LICENSE.md`. TESS: M. Kathleen Pichora-Fuller and Kate "
        "Dupuis, 2020, doi:10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.",
    ),
    "demo": _Corpus(
        short="**The speech is synthetic.** The figures show that the software works, and nothing about people.",
        limits="The corpus is synthetic: predictions for human speech are meaningless.",
        data="Sentences spoken by eSpeak NG with a rate, pitch and level for each emotion, to try the software.",
        licence="Weights: MIT; see `LICENSE.md`.",
    ),
    "folder": _Corpus(
        short="**The model knows the speakers, sentences and rooms of its own recordings** and nothing else.",
        limits="Only the owner of the recordings knows what they cover. The figures say nothing about other speakers, "
        "ages, accents, languages or rooms; only the `speaker` protocol, if present, evaluates unseen speakers.",
        data="The user's own recordings, not part of the software.",
        licence="Decided by whoever trained the model, within the licences of the recordings; see `LICENSE.md`.",
    ),
}
