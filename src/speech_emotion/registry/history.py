"""Keep the history of a registered model's champion in the model's tags, one tag per event.

MLflow keeps no history of an alias, and a version's tags are deleted with it. Each event is a tag of the registered
model with a key of its own, so no one overwrites another's. An event is written before the alias moves, and the next
command finishes an event that was cut off. The alias only ever moves to the target of the last event, and whoever moved
it checks again: alias and history agree in the end, also after a kill and after promotions at the same time.
"""

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from speech_emotion.core.errors import UserError
from speech_emotion.core.process import is_gone, process_name
from speech_emotion.registry.gates import Gate
from speech_emotion.registry.versions import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

Kind: TypeAlias = Literal["promoted", "rolled back", "by hand"]
State: TypeAlias = Literal["begun", "done", "void"]

MAX_REASON_LENGTH: Final = 1000
_MAX_TAG_LENGTH: Final = 5000
"""The length of a tag's value in MLflow's databases. The tag's key is `history.<number>.<unique>`."""
_PREFIX: Final = "history."

_FOREIGN_SECONDS: Final = 120
"""After this time, an event that another host began counts as cut off; on this host, the process is looked up."""

_ATTEMPTS: Final = 20
_REFUSALS: Final = 5
_CONFLICTS: Final = frozenset({"INTERNAL_ERROR", "BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"})
"""MLflow's errors when two processes move the alias at the same moment."""


@dataclass(frozen=True)
class PromotionEvent:
    """One move of the champion, from `source` to `target` (versions; None: no champion).

    `number` is one more than that of the newest event that the author saw; `unique` orders events with the same number.
    `seconds` is the time since 1970, `user` is user@host, and `process` a `process_name`. `forced` tells that gates
    failed. In the state "begun" the alias may not have moved yet; "void": it never will, as the target was deleted.
    """

    number: int
    unique: str
    kind: Kind
    source: int | None
    target: int | None
    user: str = "unknown"
    reason: str = ""
    gates: tuple[Gate, ...] = ()
    forced: bool = False
    mode: str = ""
    commit: str = ""
    process: str = ""
    state: State = "begun"
    seconds: int = field(default_factory=lambda: int(time.time()))

    @property
    def key(self) -> str:
        """The key of its tag."""
        return f"{_PREFIX}{self.number:06d}.{self.unique}"


@dataclass(frozen=True)
class ChampionHistory:
    """The events of a registered model, oldest first, and the version that has the alias.

    `unreadable` holds the keys of tags that were edited by hand into something else.
    """

    name: str
    champion: int | None
    events: tuple[PromotionEvent, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def last(self) -> PromotionEvent | None:
        """The event that decides where the alias belongs."""
        return next((event for event in reversed(self.events) if event.state != "void"), None)

    @property
    def expected(self) -> int | None:
        """The version that should have the alias."""
        return None if self.last is None else self.last.target

    @property
    def begun(self) -> tuple[PromotionEvent, ...]:
        """Events whose alias may not have moved."""
        return tuple(event for event in self.events if event.state == "begun")

    @property
    def moved_by_hand(self) -> bool:
        """Whether no event put the alias where it is."""
        return self.champion != self.expected and not self.begun

    @property
    def next_number(self) -> int:
        """The number of the next event."""
        return self.events[-1].number + 1 if self.events else 1

    def by_hand(self) -> PromotionEvent:
        """Return the event of a move by hand; it has the same key for all who notice it, and is written once."""
        # sorts before other events with that number
        unique = f"-{'none' if self.champion is None else self.champion}"
        return PromotionEvent(self.next_number, unique, "by hand", self.expected, self.champion, state="done")

    def former(self) -> list[int]:
        """Return the previous champions, the one to roll back to first.

        A rollback is not repeated: after 1, 2, 3 and a rollback to 2, the next rollback leads to 1.
        """
        line: list[int | None] = []
        for event in self.events:
            if event.state == "void":
                continue
            # of two events begun at once, the later one did not follow the earlier
            anchor = event.target if event.kind == "rolled back" else event.source
            if anchor in line:
                del line[len(line) - line[::-1].index(anchor) :]
            if not line or line[-1] != event.target:
                line.append(event.target)
        if line and line[-1] == self.champion:
            line.pop()
        return [version for version in reversed(line) if version is not None]


def read(client: "MlflowClient", name: str) -> ChampionHistory:
    """Read the history and the alias."""
    model = client.get_registered_model(name)
    events, unreadable = [], []
    for key, value in model.tags.items():
        if key.startswith(_PREFIX):
            try:
                events.append(_parse(key, value))
            except (ValueError, TypeError, KeyError):
                unreadable.append(key)
    champion = model.aliases.get(CHAMPION)
    # not by time: the clocks of several machines differ
    events.sort(key=lambda event: (event.number, event.unique))
    return ChampionHistory(name, None if champion is None else int(champion), tuple(events), tuple(sorted(unreadable)))


def append(client: "MlflowClient", name: str, event: PromotionEvent) -> None:
    """Write an event, or its new state; if it is too long for MLflow, without the details of its gates."""
    for gates in (event.gates, tuple(replace(gate, detail="") for gate in event.gates), ()):
        values = asdict(event) | {"gates": [list(asdict(gate).values()) for gate in gates]}
        del values["number"], values["unique"]
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        if len(text) <= _MAX_TAG_LENGTH:
            break
    client.set_registered_model_tag(name, event.key, text)


def settle(client: "MlflowClient", name: str) -> tuple[ChampionHistory, list[PromotionEvent]]:
    """Move the alias to where the history says, and finish every event whose author is gone, or is this process.

    Return the history, which then agrees with the alias, and the events that were finished.
    """
    from mlflow.exceptions import MlflowException

    finished: list[PromotionEvent] = []
    moved = False
    for attempt in range(_ATTEMPTS):
        history = read(client, name)
        last = history.last
        if last is not None and history.champion != last.target and (history.begun or moved):
            moved = True
            try:
                if last.target is None:
                    client.delete_registered_model_alias(name, CHAMPION)
                else:
                    client.set_registered_model_alias(name, CHAMPION, str(last.target))
            except MlflowException as error:
                # a server that does not respond has had its retries
                unreachable = isinstance(error.__context__, OSError)
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    append(client, name, replace(last, state="void"))
                elif unreachable or error.error_code not in _CONFLICTS or attempt >= _REFUSALS:
                    raise
            continue
        ended = [
            replace(event, state="done")
            for event in history.begun
            if event.process == process_name()
            or is_gone(event.process)
            or time.time() - event.seconds > _FOREIGN_SECONDS
        ]
        for event in ended:
            append(client, name, event)
        finished += ended
        if not ended:
            return history, finished
    raise UserError(f"{name}: others are moving the champion. `speech-emotion history` shows who.")


def _parse(key: str, value: str) -> PromotionEvent:
    number, unique = key.removeprefix(_PREFIX).split(".", 1)
    content: dict[str, Any] = json.loads(value)
    gates = tuple(Gate(*gate) for gate in content.pop("gates"))
    event = PromotionEvent(number=int(number), unique=unique, gates=gates, **content)
    if event.state == "begun" and event.process.count(":") < 2:
        raise ValueError("a process name has a host, a number and a time")
    return event
