"""Takes a registered model; gives the history of its champion, which lies in the model's tags, one an event.

MLflow keeps no history of an alias, and a version's tags die with it. So each event is a tag of the registered model
under a key of its own: nobody writes over another's. An event is written before the alias is moved, and any command
that comes later finishes what it finds begun. Nobody ever moves the alias to anything but the target of the last event,
and whoever has moved it looks again: so whatever happens at once, in the end alias and history agree.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from speech_emotion.core.errors import UserError
from speech_emotion.registry.gates import Gate
from speech_emotion.registry.versions import CHAMPION
from speech_emotion.tracking.event_log import is_gone, process_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

Kind: TypeAlias = Literal["promoted", "rolled back", "by hand"]
State: TypeAlias = Literal["begun", "done", "void"]

PREFIX: Final = "history."
"""Of the tags' keys: `history.<number>.<unique>`."""

LONGEST: Final = 5000
"""Of a tag's value, as MLflow's databases have it."""
LONGEST_REASON: Final = 1000

FOREIGN_SECONDS: Final = 120
"""After which an event that another host began counts as cut off; of this host's it is known at once."""

_TRIES: Final = 20
_REFUSALS: Final = 2
"""Of MLflow's, to move the alias, that may come from another who moves it at the same moment."""
_MAYBE_ANOTHER: Final = frozenset({"INTERNAL_ERROR", "BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"})
"""What MLflow calls such a refusal."""


@dataclass(frozen=True)
class Event:
    """One move of the champion.

    Attributes
    ----------
    number : int
        One more than that of the newest event that its author saw; two that were begun at once share theirs.
    unique : str
        Orders events of one number.
    kind : {"promoted", "rolled back", "by hand"}
    source, target : int or None
        Versions; None: there was, or is, no champion.
    seconds : int
        When, since 1970.
    user : str
        As user@host; of a move by hand nobody knows.
    reason : str
    gates : tuple of Gate
    forced : bool
        Whether gates failed, and somebody insisted.
    mode : str
        The gates' mode.
    commit : str
        That was checked out.
    process : str
        As `event_log.process_name` gives it.
    state : {"begun", "done", "void"}
        Begun: the alias may not have been moved yet. Void: it never will be, for the target was deleted.
    """

    number: int
    unique: str
    kind: Kind
    source: int | None
    target: int | None
    seconds: int
    user: str
    reason: str = ""
    gates: tuple[Gate, ...] = ()
    forced: bool = False
    mode: str = ""
    commit: str = ""
    process: str = ""
    state: State = "begun"

    @property
    def key(self) -> str:
        """The key of its tag."""
        return f"{PREFIX}{self.number:06d}.{self.unique}"

    @property
    def order(self) -> tuple[int, str]:
        """What events are sorted by; clocks of several machines would not do."""
        return self.number, self.unique

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain values."""
        values = {name: getattr(self, name) for name in _PLAIN}
        gates = [[gate.name, gate.figure, gate.limit, gate.passed, gate.detail] for gate in self.gates]
        return values | {"gates": gates}


# as they stand in a tag
_PLAIN: Final = (
    "kind",
    "source",
    "target",
    "seconds",
    "user",
    "reason",
    "forced",
    "mode",
    "commit",
    "process",
    "state",
)


@dataclass(frozen=True)
class Ledger:
    """The history of a champion and where the alias is.

    Attributes
    ----------
    name : str
        The registered model's.
    champion : int or None
        The version that the alias is on.
    events : tuple of Event
        Oldest first.
    unreadable : tuple of str
        Keys of tags that somebody has edited into what is no event.
    """

    name: str
    champion: int | None
    events: tuple[Event, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def last(self) -> Event | None:
        """The event that says where the alias belongs."""
        return next((event for event in reversed(self.events) if event.state != "void"), None)

    @property
    def expected(self) -> int | None:
        """The version that the alias belongs on."""
        return None if self.last is None else self.last.target

    @property
    def begun(self) -> tuple[Event, ...]:
        """Events whose alias may not have been moved."""
        return tuple(event for event in self.events if event.state == "begun")

    @property
    def moved_by_hand(self) -> bool:
        """Whether the alias is where no event, done or begun, has put it."""
        return self.champion != self.expected and not self.begun

    def by_hand(self) -> Event:
        """Return the event that says so; equal for all who see the same, so that it is written once."""
        number = self.events[-1].number + 1 if self.events else 1
        # sorts before whatever else has that number
        unique = f"-{'none' if self.champion is None else self.champion}"
        return Event(number, unique, "by hand", self.expected, self.champion, int(time.time()), "unknown", state="done")

    def former(self) -> list[int]:
        """Return the versions that were champion before, the one to go back to first.

        A way back that was taken is not taken again: after 1, 2, 3 and a rollback to 2, the next leads to 1.
        """
        line: list[int | None] = []
        for event in self.events:
            if event.state == "void":
                continue
            # of two that were begun at once, the later one did not follow the earlier
            anchor = event.target if event.kind == "rolled back" else event.source
            if anchor in line:
                del line[len(line) - line[::-1].index(anchor) :]
            if not line or line[-1] != event.target:
                line.append(event.target)
        if line and line[-1] == self.champion:
            line.pop()
        return [version for version in reversed(line) if version is not None]


def read(client: "MlflowClient", name: str) -> Ledger:
    """Read the history and the alias.

    Raises
    ------
    mlflow.exceptions.MlflowException
        There is no such registered model, or MLflow does not answer.
    """
    model = client.get_registered_model(name)
    events, unreadable = [], []
    for key, value in model.tags.items():
        if key.startswith(PREFIX):
            try:
                events.append(_parse(key, value))
            except (ValueError, TypeError, KeyError):
                unreadable.append(key)
    champion = model.aliases.get(CHAMPION)
    events.sort(key=lambda event: event.order)
    return Ledger(name, None if champion is None else int(champion), tuple(events), tuple(sorted(unreadable)))


def observe(client: "MlflowClient", name: str) -> Ledger:
    """Read the history; where the alias seems moved by hand, once more: an event is written before its alias moves."""
    first = read(client, name)
    if not first.moved_by_hand:
        return first
    again = read(client, name)
    return again if again.moved_by_hand and again.champion == first.champion else read(client, name)


def append(client: "MlflowClient", name: str, event: Event) -> None:
    """Write an event, or what became of it."""
    client.set_registered_model_tag(name, event.key, _text(event))


def settle(client: "MlflowClient", name: str) -> tuple[Ledger, list[Event]]:
    """Bring the alias to where the history says, and finish every event whose author is gone, or is this process.

    Returns
    -------
    Ledger
        In which alias and history agree.
    list of Event
        What was finished.

    Raises
    ------
    UserError
        Others move the champion faster than it can be looked at.
    mlflow.exceptions.MlflowException
        MLflow does not answer, or refuses again and again to move the alias.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    finished: dict[str, Event] = {}
    moved, refused = False, 0
    for _ in range(_TRIES):
        ledger = read(client, name)
        last = ledger.last
        if last is not None and ledger.champion != last.target and (ledger.begun or moved):
            moved = True
            try:
                exists = _move(client, name, last.target)
            except MlflowException as error:
                # two who set an alias for the first time make the same row, and a database lets one of them; MLflow's
                # client has waited long enough for a server that does not answer
                unanswered = isinstance(error.__context__, RequestException)
                if unanswered or error.error_code not in _MAYBE_ANOTHER or refused == _REFUSALS:
                    raise
                refused += 1
                continue
            if not exists:
                append(client, name, replace(last, state="void"))
            continue
        ended = [event for event in ledger.begun if _is_over(event)]
        for event in ended:
            done = replace(event, state="done")
            append(client, name, done)
            finished[event.key] = done
        if not ended:
            return ledger, list(finished.values())
    raise UserError(f"{name}: the champion is being moved by others. `speech-emotion history` shows by whom.")


def _move(client: "MlflowClient", name: str, target: int | None) -> bool:
    """Set or take away the alias; return whether the target exists."""
    from mlflow.exceptions import MlflowException

    if target is None:
        client.delete_registered_model_alias(name, CHAMPION)
        return True
    try:
        client.set_registered_model_alias(name, CHAMPION, str(target))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _is_over(event: Event) -> bool:
    """Tell whether an event's author will not move the alias any more, but for this process, which is about to look."""
    if event.process == process_name():
        return True
    return is_gone(event.process) or time.time() - event.seconds > FOREIGN_SECONDS


def _parse(key: str, value: str) -> Event:
    number, unique = key.removeprefix(PREFIX).split(".", 1)
    content: Mapping[str, Any] = json.loads(value)
    gates = tuple(Gate(*gate) for gate in content["gates"])
    event = Event(int(number), unique, **{name: content[name] for name in _PLAIN}, gates=gates)
    if event.state == "begun" and event.process.count(":") < 2:
        raise ValueError("a process has a host, a number and a time")
    return event


def _text(event: Event) -> str:
    """Return an event as JSON; where it is too long for MLflow, first details go, then gates that were passed."""
    bare = tuple(replace(gate, detail="") for gate in event.gates)
    failed = tuple(gate for gate in bare if not gate.passed)
    for gates in (event.gates, bare, failed, ()):
        text = json.dumps(replace(event, gates=gates).as_dict(), ensure_ascii=False, separators=(",", ":"))
        if len(text) <= LONGEST:
            return text
    raise UserError(f"a reason has {LONGEST_REASON} characters at most.")
