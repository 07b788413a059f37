"""Takes a package's description, the metrics of every protocol and what training took; gives its model card, Markdown.

The sections are those of Mitchell et al. (2019, "Model cards for model reporting"). Every figure comes from the
evidence that the package carries; the words about the data are those of its kind of corpus. Nothing is dated: equal
values give equal text.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speech_emotion.config.data import CorpusName
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation.bootstrap import Interval
from speech_emotion.features.mfcc import names
from speech_emotion.models.package import Description

CARD: Final = "MODEL_CARD.md"
"""The file in a package."""

DESCRIPTION_LIMIT: Final = 5000
"""Characters that MLflow's database keeps of a version's description."""

ROBUSTNESS: Final = "robustness"
"""What a package calls its evidence under noise, other rates and codecs, beside that of protocols."""

Evidence = Mapping[str, Mapping[str, Any]]
"""The metrics of each protocol, as metrics.json has them; and, if there is such, what `ROBUSTNESS` names."""

QUESTIONS: Final[Mapping[str, str]] = {
    "speaker": "a voice that it has never heard",
    "word": "words that it has not learned from, in voices that it has",
    "random": "other recordings of the same voices and words",
    "full": "recordings kept out of training, of the same voices and words",
}
"""What each protocol asks about, in words; the one that counts for new people first."""

_OPERATIONS_PER_JOULE: Final = 1e9
_GRAMS_PER_KWH: Final = 475.0


@dataclass(frozen=True)
class Training:
    """What training took.

    Attributes
    ----------
    epochs : int
    weights : int
        That training moves.
    frames : int
        Of the features of the corpus: what one epoch hears, at most.
    """

    epochs: int
    weights: int
    frames: int

    @property
    def operations(self) -> float:
        """Floating-point operations, by the rule of six a weight and step (Kaplan et al., 2020)."""
        return 6.0 * self.weights * self.frames * self.epochs

    @property
    def watt_hours(self) -> float:
        """Energy at 10^9 operations a joule, about what LSTM layers get out of a desktop's processor."""
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
    """Return what a package carries as its evidence.

    Parameters
    ----------
    protocols : Path
        Holds a folder a protocol, each with its metrics.json.
    robustness : Path
        Holds table.csv, a row a protocol and condition.

    Returns
    -------
    dict
        Metrics by protocol and, as `ROBUSTNESS`, UAR and drop by protocol and condition.
    """
    # a folder that begins with a dot is what a killed evaluate left
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
    """Return the model card.

    Parameters
    ----------
    description : Description
        Of the package, as its package.json will have it.
    evidence : mapping of str to mapping
        Metrics by protocol.
    kind : {"tess", "demo", "folder"}
        The kind of corpus, which decides what is said of the data.
    training : Training
    """
    words = _WORDS[kind]
    sections = {
        "In short": "\n".join(f"* {line}" for line in (*reading(description, evidence), words.short)),
        "The model": _model(description, training),
        "What it is for": _FOR,
        "What it is not for": limits(kind),
        "How good it is": _metrics(evidence),
        "By voice and emotion": _slices(description, evidence),
        **(
            {"Under noise, other rates and codecs": _robustness(evidence[ROBUSTNESS])} if ROBUSTNESS in evidence else {}
        ),
        "What it learned from": words.data,
        "Ethics": _ETHICS,
        "Time and carbon": _cost(training),
        "Licence": words.licence,
        "Where it comes from": _origin(description),
    }
    body = "\n\n".join(f"## {title}\n{text}" for title, text in sections.items())
    return f"# Model card: speech-emotion, trained on {description.corpus}\n\n{body}\n"


def reading(description: Description, evidence: Evidence) -> list[str]:
    """Return what the figures mean, in plain sentences, the most important first."""
    chance = 1 / len(description.labels)
    lines = []
    if "speaker" in evidence:
        report = evidence["speaker"]
        interval = Interval.from_list(report["mean"]["interval"]["uar"])
        lines.append(
            f"**A voice that it has never heard:** {_percent(report['mean']['uar'])} of each emotion's recordings are "
            f"recognised on average (95 % interval {interval.text('.0%').replace('%', ' %')}; guessing gives "
            f"{_percent(chance)}). This is the figure that counts for new speakers. The interval is over the words of "
            f"the {len(report['folds'])} speakers there are, and says nothing about how much speakers differ."
        )
        label, recalls = worst_emotion(evidence["speaker"])
        lines.append(
            f"**The emotion that carries over worst is {_words(label)}:** {_among(recalls)} of its recordings are "
            "recognised in a new voice."
        )
    known = next((name for name in ("word", "random", "full") if name in evidence), None)
    if known is not None:
        mean = evidence[known]["mean"]
        lines.append(
            f"**Voices that it has learned from:** {_percent(mean['uar'])} on {QUESTIONS[known]}. "
            "It measures how alike the recordings are, more than how well emotion is heard."
        )
    if "speaker" in evidence:
        error = evidence["speaker"]["mean"]["ece"]
        lines.append(
            f"**How sure it says it is:** in a new voice its confidence is off by {_points(error)} on average "
            f"(expected calibration error).{_known_voices(evidence, known)}"
        )
    if description.rejection is not None:
        rejection = description.rejection
        lines.append(
            f"**When it says “not sure”:** below a confidence of {rejection.threshold:.2f}. In the artificial voices "
            f"where this was fitted, {_percent(rejection.coverage)} of the answers were above it, and "
            f"{_percent(rejection.risk)} of those were wrong.{_sure_of_new_voices(evidence)}"
        )
    return lines


def _known_voices(evidence: Evidence, known: str | None) -> str:
    """Return what calibration for new voices does to known ones, with a space in front, where it does anything."""
    if known is None:
        return ""
    mean = evidence[known]["mean"]
    before = mean.get("uncalibrated", {}).get("ece")
    if before is None or mean["ece"] <= before:
        return ""
    return (
        f" It is fitted for new voices, so in voices that it knows it is too modest: off by {_points(mean['ece'])} "
        f"on {QUESTIONS[known]}, where {_points(before)} would be its own."
    )


def _sure_of_new_voices(evidence: Evidence) -> str:
    """Return what is above the threshold in voices that were never heard, with a space in front."""
    folds = evidence.get("speaker", {}).get("folds", {})
    found = {name: fold["rejection"] for name, fold in folds.items() if fold.get("rejection")}
    if not found:
        return " A real new voice may be harder."
    coverage = _among({name: one["coverage"] for name, one in found.items()})
    risks = {name: one["risk"] for name, one in found.items() if one["risk"] is not None}
    wrong = f"; of those, {_among(risks)} were wrong" if risks else ""
    return f" In voices that it has never heard, {coverage} of the answers are above it{wrong}."


def limits(kind: CorpusName) -> str:
    """Return what the model is not for and what its corpus cannot support, as Markdown."""
    return f"{_NOT_FOR}\n\n{_WORDS[kind].cannot}"


def worst_emotion(report: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the label of the lowest mean recall over a protocol's folds, and its recall in each."""
    folds = {name: fold["recall"] for name, fold in report["folds"].items()}
    labels = sorted({label for recalls in folds.values() for label in recalls})

    def mean(label: str) -> float:
        found = [recalls[label] for recalls in folds.values() if label in recalls]
        return sum(found) / len(found)

    worst = min(labels, key=mean)
    return worst, {name: recalls[worst] for name, recalls in folds.items() if worst in recalls}


def abridged(card: str, limit: int = DESCRIPTION_LIMIT) -> str:
    """Return the sections of a card that fit into a number of characters, and where the others are."""
    if len(card) <= limit:
        return card
    rest = f"\n\nThe whole card is `{CARD}` in the package.\n"
    head, *sections = card.split("\n\n## ")
    for section in sections:
        longer = f"{head}\n\n## {section}"
        if len(longer) + len(rest) > limit:
            break
        head = longer
    return head[: limit - len(rest)] + rest


def _model(description: Description, training: Training) -> str:
    features = description.features
    rows = [
        f"* LSTM and dense layers over {len(names(features))} features (MFCCs, and what else `package.json` names) "
        f"every {1000 * features.hop_length / features.sample_rate:.3g} ms at {features.sample_rate} Hz; "
        f"{training.weights:,} weights, trained from scratch.",
        f"* Input: a recording of {description.limits.min_seconds:g} to {description.limits.max_seconds:g} s. Output: "
        f"a probability for each of {', '.join(map(_words, description.labels))}.",
        f"* Calibration: logits are divided by {description.temperature:g}.",
        f"* Made by speech-emotion {description.software}; answers come from ONNX Runtime on a processor.",
    ]
    return "\n".join(rows)


def _metrics(evidence: Evidence) -> str:
    lines = [
        "The model in this package has learned from every voice that there was. What it can do is shown by models that "
        "were trained the same way without the part that they are judged on; only `full` is of this very model.",
        "",
        "95 % intervals resample words within speaker. UAR: recall averaged over emotions. ECE: expected calibration "
        "error.",
        "",
        "| protocol | asked about | UAR | accuracy | macro-F1 | NLL | Brier | ECE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for protocol, report in _ordered(evidence):
        mean = report["mean"]
        cells = [_with_interval(mean, metric) for metric in ("uar", "accuracy", "macro_f1", "nll", "brier", "ece")]
        lines.append(f"| {protocol} | {QUESTIONS.get(protocol, '')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _slices(description: Description, evidence: Evidence) -> str:
    lines = [
        "Recall of each emotion.",
        "",
        f"| protocol | voice left out | {' | '.join(map(_words, description.labels))} |",
        "|---|---" + "|---" * len(description.labels) + "|",
    ]
    for protocol, report in _ordered(evidence):
        for name, fold in report["folds"].items():
            cells = [f"{fold['recall'][label]:.2f}" if label in fold["recall"] else "" for label in description.labels]
            lines.append(f"| {protocol} | {'' if name == 'all' else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _robustness(found: Mapping[str, Any]) -> str:
    lines = [
        "UAR under each condition, and what is lost, in voices that the model knows. What noise costs in a voice that "
        "it has never heard was not asked: each look at those is one look fewer to judge by.",
        "",
        "| protocol | condition | UAR | lost |",
        "|---|---|---|---|",
    ]
    for protocol, conditions in found.items():
        for condition, figures in conditions.items():
            lines.append(f"| {protocol} | {condition} | {figures['uar']:.3f} | {figures['drop']:.3f} |")
    return "\n".join(lines)


def _cost(training: Training) -> str:
    hours = training.watt_hours
    return (
        f"{training.epochs} epochs over at most {training.frames:,} frames: about {training.operations:.1e} "
        "floating-point operations (six a weight and step). At 10^9 a joule, which is about what a desktop's processor "
        f"gets out of LSTM layers, that is {hours:.2g} Wh and {hours / 1000 * _GRAMS_PER_KWH:.2g} g of CO2 at the "
        f"world's mean of {_GRAMS_PER_KWH:.0f} g/kWh. An estimate, not a measurement; how long the training took is "
        "with its run in MLflow. The other protocols' trainings, baselines and whatever was tried before come on top."
    )


def _origin(description: Description) -> str:
    rows = [f"* {name}: `{digest}`" for name, digest in sorted(description.lineage.items())]
    return "\n".join(
        ["SHA-256 digests; `dvc.lock` of the commit that made this has the same data and settings.", *rows]
    )


def _ordered(evidence: Evidence) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the protocols, the one that counts for new speakers first."""
    order = list(QUESTIONS)
    protocols = [(name, report) for name, report in evidence.items() if name != ROBUSTNESS]
    return sorted(protocols, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _with_interval(mean: Mapping[str, Any], metric: str) -> str:
    return f"{mean[metric]:.3f} ({Interval.from_list(mean['interval'][metric]).text()})"


def _among(recalls: Mapping[str, float]) -> str:
    parts = [f"{_percent(value)} ({name})" for name, value in recalls.items()]
    if len(parts) > 4:
        return f"{_percent(min(recalls.values()))} to {_percent(max(recalls.values()))}"
    return " and ".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _points(share: float) -> str:
    return f"{100 * share:.0f} percentage points"


def _words(label: str) -> str:
    return label.replace("_", " ")


_FOR: Final = (
    "Research and teaching: trying out how speech emotion recognition is built, tracked, evaluated and served, and how "
    "far its figures can be trusted. A baseline to be beaten on the same protocols."
)

_NOT_FOR: Final = (
    "No decision about a person: not in hiring, at work, at school, in policing, at borders, in insurance, credit or "
    "health care, and no listening to people who do not know of it. In the European Union, systems that infer emotions "
    "at work and in education are prohibited (Regulation 2024/1689, article 5). No answer of this model says what "
    "somebody feels."
)

_ETHICS: Final = (
    "An expression is not a feeling: people show the same feeling in different ways, by person, culture and situation "
    "(Barrett et al., 2019). A model that was trained on few voices is worse for all others, and nobody can tell from "
    "its answer for whom. Recordings of a voice are personal data; prediction keeps none."
)


@dataclass(frozen=True)
class _Words:
    """What is to be said of a kind of corpus."""

    short: str
    cannot: str
    data: str
    licence: str


_WORDS: Final[Mapping[CorpusName, _Words]] = {
    "tess": _Words(
        short="**The data is two actresses who act, in one sentence.** Nothing here supports a claim about other "
        "people, other sentences or felt emotion.",
        cannot="What this corpus cannot support, however good a figure looks:\n"
        "* **Other people.** Two women from the Toronto area, native speakers of English, 64 and 26 years old. No men, "
        "no children, no other accent or language. With two speakers, nobody knows how much a third would differ.\n"
        "* **Felt emotion.** Both acted each emotion on demand, 200 times.\n"
        "* **Free speech.** Every recording is “Say the word …” and one word, the same words with every emotion.\n"
        "* **Rooms, telephones, noise, crosstalk.** All recordings are quiet and close; loudness and length alone give "
        "many of the emotions away.\n"
        "* **Other or mixed emotions.** Seven labels, one a recording, and always one of them is answered.\n"
        "* **The figures themselves, to the last point.** Features and network follow a recipe that was found by "
        "looking at the left-out actress, so what is said of a voice that was never heard is optimistic. "
        "`docs/test-looks.md` of the repository has every look at a test score, and by what each setting was chosen.",
        data="The Toronto emotional speech set (TESS): 2,800 recordings, 96 minutes, two actresses, seven emotions, "
        "200 words each. `docs/data-sheet.md` of the repository describes it.",
        licence="Weights: CC BY-NC 4.0, not for commercial use; `LICENSE.md` beside this file. TESS: M. Kathleen "
        "Pichora-Fuller and Kate Dupuis, 2020, doi:10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.",
    ),
    "demo": _Words(
        short="**The voices are a speech synthesiser's.** The figures show that the software works, and nothing about "
        "people.",
        cannot="The corpus is synthetic: no answer about human speech means anything.",
        data="Sentences spoken by eSpeak NG with a rate, pitch and loudness for each emotion: made to try the software "
        "with.",
        licence="Weights: MIT licence; `LICENSE.md` beside this file.",
    ),
    "folder": _Words(
        short="**It knows the voices, sentences and rooms of its own recordings.** What they do not cover, it has not "
        "learned.",
        cannot="Nobody but the owner of the recordings knows whom and what they cover. What they do not (voices, ages, "
        "accents, languages, rooms, ways of feeling) no figure here speaks about; the `speaker` protocol, where there "
        "is one, is the only one that asks about new people.",
        data="Recordings of the user's own, no part of the software.",
        licence="Whoever trained it decides, within what the recordings' licences and the people in them allow; "
        "`LICENSE.md` beside this file.",
    ),
}
