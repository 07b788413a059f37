"""Takes models that differ in every way; gives how well pseudo-speakers predict what each does with a new speaker.

Every model is trained on every fold of the speaker protocol. Then it is asked about the fold's validation utterances as
they were recorded, about the same in the voices of pseudo-speakers, and about the speaker who was left out. A selection
signal is as good as its order of the models is that of the left-out speaker (Spearman's rank correlation).

Nothing is chosen here: the left-out speaker is looked at by all models at once, and the look is written down in
docs/test-looks.csv.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from speech_emotion import figures
from speech_emotion.audio import decode
from speech_emotion.compute import parallel_map
from speech_emotion.errors import UserError
from speech_emotion.features import Extractor, names
from speech_emotion.files import digest_file, digest_json, replacing, replacing_folder, write_json, write_text
from speech_emotion.impersonation import Impersonated
from speech_emotion.progress import track
from speech_emotion.prosody import TRACKS
from speech_emotion.reference import Reference
from speech_emotion.settings.base import parse_section
from speech_emotion.settings.featurize import FeaturizeSettings
from speech_emotion.settings.pseudo_speakers import PseudoSpeakersSettings
from speech_emotion.settings.study import StudyModel, StudySettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.splits import Fold
from speech_emotion.stage import alone
from speech_emotion.store import RECORDED, FeatureStore

SAME_VOICES: Final = "same voices"
PSEUDO_SPEAKERS: Final = "pseudo-speakers"
LEFT_OUT: Final = "left-out speaker"
NETWORKS_ALONE: Final = "mean, networks alone"
SIGNALS: Final = (SAME_VOICES, PSEUDO_SPEAKERS)
"""What a model could be chosen by."""

_SHORTCUTS: Final = ("rms_dbfs", "peak_dbfs", "seconds")


@dataclass(frozen=True)
class Material:
    """What all models of the study are made from.

    Attributes
    ----------
    manifest : pd.DataFrame
    raw : Path
        The tree of recordings.
    store, strangers : FeatureStore
        Features as recorded with their copies, and those of validation utterances in the voices of pseudo-speakers.
    train : dict
        The section `train` of params.yaml.
    reference : Reference
    pseudo_speakers : PseudoSpeakersSettings
    held_back : frozenset of str
        The validation utterances of all folds: what pseudo-speakers say.
    workers : int or None
    """

    manifest: pd.DataFrame
    raw: Path
    store: FeatureStore
    strangers: FeatureStore
    train: Mapping[str, Any]
    reference: Reference
    pseudo_speakers: PseudoSpeakersSettings
    held_back: frozenset[str]
    workers: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The corpus's labels in alphabetical order."""
        return tuple(sorted(set(self.manifest["emotion"])))

    @cached_property
    def emotions(self) -> pd.Series:
        """The label of each utterance, by id."""
        return self.manifest.set_index("id")["emotion"]

    @cached_property
    def voices(self) -> tuple[Impersonated, ...]:
        """The pseudo-speakers."""
        asked = self.pseudo_speakers
        emotions = dict(self.emotions.loc[sorted(self.held_back)])
        return tuple(Impersonated(voice, asked.seed, asked.acting, emotions) for voice in asked.voices)

    @cached_property
    def digest(self) -> str:
        """Names the recordings and all that is made of them."""
        known = self.manifest[["id", "emotion", "sha256"]].to_numpy().tolist()
        settings = self.reference.featurize.model_dump(mode="json"), self.pseudo_speakers.model_dump(mode="json")
        return digest_json([known, *settings, self.store.digest, self.strangers.digest, sorted(self.held_back)])

    @cached_property
    def summaries(self) -> dict[str, pd.DataFrame]:
        """What the simple models see of an utterance, by voice, a row an utterance.

        Means and deviations of the reference model's MFCCs over time, and level, peak and duration.
        """
        with alone(f"study/summaries-{self.digest[:16]}") as scratch:
            kept = scratch / "summaries.npz"
            if not kept.exists():
                self._write_summaries(kept)
            with np.load(kept) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        ids = list(self.manifest["id"])
        spoken = [name for name in ids if name in self.held_back]
        columns = [f"{what} {number}" for what in ("mean", "deviation") for number in range(self._coefficients)]
        return {
            voice: pd.DataFrame(rows, index=ids if voice == RECORDED else spoken, columns=[*columns, *_SHORTCUTS])
            for voice, rows in found.items()
        }

    @property
    def _coefficients(self) -> int:
        settings = self.reference.featurize
        return (settings.n_mfcc - (not settings.c0)) * (1 + settings.deltas)

    def _write_summaries(self, target: Path) -> None:
        paths = [(name, self.raw / path) for name, path in zip(self.manifest["id"], self.manifest["path"], strict=True)]
        held_back = [one for one in paths if one[0] in self.held_back]
        work = partial(_summary, settings=self.reference.featurize, voice=None)
        rows = {
            RECORDED: list(track(parallel_map(work, paths, workers=self.workers), len(paths), "study", "recordings"))
        }
        for voice in self.voices:
            work = partial(_summary, settings=self.reference.featurize, voice=voice)
            made = parallel_map(work, held_back, workers=self.workers)
            rows[voice.voice] = list(track(made, len(held_back), f"study: {voice.voice}", "recordings"))
        arrays: dict[str, Any] = {voice: np.stack(values) for voice, values in rows.items()}
        with replacing(target) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)


@dataclass(frozen=True)
class Score:
    """The UAR of a model, trained on a fold, over one set of utterances in one voice."""

    model: str
    fold: str
    signal: str
    voice: str
    utterances: int
    uar: float


def scores(model: StudyModel, fold: Fold, material: Material, *, seed: int) -> list[Score]:
    """Train a model on a fold and score it; what was scored before, in this or in a killed process, is read again.

    Parameters
    ----------
    model : StudyModel
    fold : Fold
    material : Material
    seed : int
        Of the simple models.
    """
    key = digest_json(
        {
            "material": material.digest,
            "model": model.model_dump(mode="json", exclude={"name"}),
            "train": dict(material.train) if model.kind == "network" else {},
            "fold": [fold.name, *fold.train, *fold.validation, *fold.test],
            "seed": seed,
            "code": digest_file(Path(__file__)),
        }
    )
    with alone(f"study/{key[:32]}") as scratch:
        done = scratch / "scores.json"
        if done.exists():
            return [Score(**{**one, "model": model.name}) for one in json.loads(done.read_text(encoding="utf-8"))]
        found = _scores(model, fold, material, seed)
        write_json(done, [asdict(one) for one in found])
    return found


def _scores(model: StudyModel, fold: Fold, material: Material, seed: int) -> list[Score]:
    if model.kind in ("network", "reference"):
        answer = _network(model, fold, material)
    else:
        answer = _classical(model, fold, material, seed)
    asked = [
        (SAME_VOICES, RECORDED, fold.validation),
        *((PSEUDO_SPEAKERS, voice.voice, fold.validation) for voice in material.voices),
        (LEFT_OUT, RECORDED, fold.test),
    ]
    return [
        Score(
            model.name, fold.name, signal, voice, len(ids), _uar(material.emotions.loc[list(ids)], answer(ids, voice))
        )
        for signal, voice, ids in asked
    ]


Answer = Callable[[Sequence[str], str], np.ndarray]
"""From utterances and a voice to the label that a model hears in each."""


def _classical(model: StudyModel, fold: Fold, material: Material, seed: int) -> Answer:
    makers: Mapping[str, Callable[[], ClassifierMixin]] = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed)),
        "svm": lambda: make_pipeline(StandardScaler(), SVC(C=10.0, random_state=seed)),
        "forest": lambda: RandomForestClassifier(n_estimators=300, random_state=seed),
    }
    names = list(material.summaries[RECORDED].columns)
    wanted = {
        "means": [name for name in names if name.startswith("mean ")],
        "deviations": [name for name in names if name.startswith("deviation ")],
        "means and deviations": [name for name in names if name not in _SHORTCUTS],
        "level and duration": list(_SHORTCUTS),
    }[model.inputs]

    def inputs(ids: Sequence[str], voice: str) -> np.ndarray:
        return material.summaries[voice].loc[list(ids), wanted].to_numpy()

    classifier = makers[model.kind]()
    classifier.fit(inputs(fold.train, RECORDED), material.emotions.loc[list(fold.train)].to_numpy())
    return lambda ids, voice: classifier.predict(inputs(ids, voice))


def _network(model: StudyModel, fold: Fold, material: Material) -> Answer:
    # the simple models need no TensorFlow, which takes seconds to import
    from speech_emotion.training import Part, predict_logits, train, training_digest

    frames, copies = _inputs(model, material)
    settings = material.reference.train if model.kind == "reference" else changed(material.train, model)
    index = {label: number for number, label in enumerate(material.labels)}

    def part(ids: Sequence[str], voices: Sequence[str], more: Sequence[str] = ()) -> Part:
        truth = np.array([index[material.emotions[name]] for name in ids], dtype=np.int64)
        heard = [one for voice in voices for one in frames(ids, voice)]
        return Part(heard, np.tile(truth, len(voices)), tuple(frames(ids, voice) for voice in more))

    digest = training_digest(
        settings,
        features=digest_json([material.store.digest, material.digest, model.kind, model.inputs, list(copies)]),
        train=[(name, str(material.emotions[name])) for name in fold.train],
        validation=[(name, str(material.emotions[name])) for name in fold.validation],
        strangers=material.strangers.digest,
    )
    voices = [voice.voice for voice in material.voices]
    with alone(f"train/{digest}") as scratch:
        trained = train(
            settings,
            training=part(fold.train, [RECORDED], copies),
            validation=part(fold.validation, [RECORDED]),
            strangers=part(fold.validation, voices),
            labels=len(index),
            scratch=scratch,
            on_epoch=lambda row: print(
                f"{model.name}, without {fold.name}: epoch {row.epoch}/{settings.epochs}  loss {row.loss:.4f}  "
                f"pseudo-speakers {row.val_uar:.3f}",
                flush=True,
            ),
        )
    labels = np.array(material.labels)
    return lambda ids, voice: labels[predict_logits(trained.network, frames(ids, voice)).argmax(axis=1)]


def _inputs(
    model: StudyModel, material: Material
) -> tuple[Callable[[Sequence[str], str], list[np.ndarray]], tuple[str, ...]]:
    """Return what gives a network its frames, and the copies that it is to hear in training."""
    if model.kind == "reference":
        wanted = [name for name in material.summaries[RECORDED].columns if name.startswith("mean ")]

        def means(ids: Sequence[str], voice: str) -> list[np.ndarray]:
            # one frame, the mean itself: the mean over time that the network takes is then that frame
            rows = material.summaries[voice].loc[list(ids), wanted].to_numpy(dtype=np.float32)
            return [row[None, :] for row in rows]

        return means, ()
    heard = names(changed(material.train, model).inputs.of(material.store.settings))
    chosen = [
        number
        for number, name in enumerate(material.store.names)
        if name in heard and (model.inputs == "frames" or (name in TRACKS) == (model.inputs == "prosody"))
    ]
    if not chosen:
        raise UserError(f"study: '{model.name}' is to hear prosody, and featurize.prosody in params.yaml is off.")
    every = [voice for voice in material.store.voices if voice != RECORDED]
    copies = every if model.copies is None else every[: model.copies]
    if model.copies is not None and len(copies) < model.copies:
        raise UserError(f"study: '{model.name}' is to hear {model.copies} copies, and augment.copies is {len(every)}.")
    own = {voice.voice for voice in material.voices}

    def frames(ids: Sequence[str], voice: str) -> list[np.ndarray]:
        store = material.strangers if voice in own else material.store
        return [one[:, chosen] for one in store.read(ids, voice)]

    return frames, tuple(copies)


def changed(train: Mapping[str, Any], model: StudyModel) -> TrainSettings:
    """Return the settings of params.yaml with a model's changes, nested keys by themselves."""

    def merged(before: Any, after: Any) -> Any:
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            return {**before, **{key: merged(before.get(key), value) for key, value in after.items()}}
        return after

    return parse_section("train", TrainSettings, merged(dict(train), model.train), Path(f"the study's '{model.name}'"))


def correlations(table: pd.DataFrame, settings: StudySettings) -> pd.DataFrame:
    """Return how the order of the models by each signal agrees with that by the left-out speaker.

    Parameters
    ----------
    table : pd.DataFrame [columns=(model, fold, same voices, pseudo-speakers, left-out speaker)]
        What `by_model` gives.
    settings : StudySettings

    Returns
    -------
    pd.DataFrame [columns=(signal, fold, models, rho, low, high)]
        Spearman's rank correlation and its 95 % interval by drawing models anew; fold "mean" is of the mean over folds,
        `NETWORKS_ALONE` the same of the networks, where there are three at least: among models of all kinds a signal
        has only to tell the weak from the strong.
        Models of which several are variants of one stand closer than an independent dozen would: the interval is
        narrower than it would be for other kinds of models.
    """
    means = table.groupby("model", sort=False)[[*SIGNALS, LEFT_OUT]].mean().reset_index().assign(fold="mean")
    networks = [model.name for model in settings.models if model.kind == "network"]
    alike = means[means["model"].isin(networks)].assign(fold=NETWORKS_ALONE)
    rows = []
    for fold, part in pd.concat([means, alike if len(alike) >= 3 else None, table]).groupby("fold", sort=False):
        values = part[[*SIGNALS, LEFT_OUT]].to_numpy()
        rng = np.random.default_rng(settings.seed)
        drawn = rng.integers(len(values), size=(settings.resamples, len(values)))
        for column, signal in enumerate(SIGNALS):
            resampled = _rho(values[drawn, column], values[drawn, -1])
            low, high = np.nanquantile(resampled, [0.025, 0.975])
            rho = float(_rho(values[None, :, column], values[None, :, -1])[0])
            rows.append({"signal": signal, "fold": fold, "models": len(values), "rho": rho, "low": low, "high": high})
    return pd.DataFrame(rows)


def by_model(found: Sequence[Score]) -> pd.DataFrame:
    """Return a row a model and fold, a column a signal: the UAR, the mean over voices where there are several."""
    rows = pd.DataFrame([asdict(one) for one in found])
    table = rows.pivot_table(index=["model", "fold"], columns="signal", values="uar", aggfunc="mean", sort=False)
    return table[[*SIGNALS, LEFT_OUT]].reset_index().rename_axis(columns=None)


def markdown(table: pd.DataFrame, correlation: pd.DataFrame) -> str:
    """Return the study as Markdown: the rank correlations, then every model, the mean over folds."""
    lines = ["| chosen by | left out | models | Spearman's rank correlation (95 %) |", "|---|---|---|---|"]
    lines += [
        f"| {row['signal']} | {row['fold']} | {row['models']} | {row['rho']:+.2f} ({row['low']:+.2f} to "
        f"{row['high']:+.2f}) |"
        for row in correlation.to_dict("records")
    ]
    lines += ["", f"| model, UAR | {SAME_VOICES} | {PSEUDO_SPEAKERS} | {LEFT_OUT} |", "|---|---|---|---|"]
    means = table.groupby("model", sort=False)[[*SIGNALS, LEFT_OUT]].mean()
    for name, row in means.iterrows():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    return "\n".join(lines) + "\n"


def write(found: Sequence[Score], settings: StudySettings, target: Path, *, corpus: str) -> pd.DataFrame:
    """Write `scores.csv`, `models.csv`, `correlation.csv`, `table.md` and `plot.png`; return the correlations."""
    table = by_model(found)
    correlation = correlations(table, settings)
    with replacing_folder(target) as folder:
        for name, rows in (
            ("scores.csv", pd.DataFrame([asdict(one) for one in found])),
            ("models.csv", table),
            ("correlation.csv", correlation),
        ):
            with replacing(folder / name) as aside:
                rows.to_csv(aside, index=False, lineterminator="\n", float_format="%.6f")
        write_text(folder / "table.md", markdown(table, correlation))
        figures.signals(
            folder / "plot.png",
            table.groupby("model", sort=False)[[*SIGNALS, LEFT_OUT]].mean(),
            correlation[correlation["fold"] == "mean"].set_index("signal"),
            title=f"{corpus}: what a model's choice can go by, mean over the speakers left out",
        )
    return correlation


def _summary(recording: tuple[str, Path], *, settings: FeaturizeSettings, voice: Impersonated | None) -> np.ndarray:
    """Return what the simple models see of a recording, in a pseudo-speaker's voice or as it is."""
    name, path = recording
    sound = decode(path)
    wave = sound.mono(settings.sample_rate) if voice is None else voice.waveform(sound, name, settings.sample_rate)
    frames = Extractor(settings)(wave).astype(np.float64)
    level = 10 * np.log10(max(float(np.mean(np.square(wave, dtype=np.float64))), 1e-12))
    peak = 20 * np.log10(max(float(np.abs(wave).max()), 1e-6))
    return np.array([*frames.mean(axis=0), *frames.std(axis=0), level, peak, len(wave) / settings.sample_rate])


def _rho(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each row; nan where one of the two is constant."""
    centred = [
        ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(first, axis=1), rankdata(second, axis=1))
    ]
    norms = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    products = (centred[0] * centred[1]).sum(axis=1)
    return np.divide(products, norms, out=np.full_like(products, np.nan), where=norms > 0)


def _uar(truth: pd.Series, heard: np.ndarray) -> float:
    import warnings

    with warnings.catch_warnings():
        # an answer that the truth has not is a mistake like any other
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        return float(balanced_accuracy_score(truth.to_numpy(), heard))
