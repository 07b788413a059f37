"""Send damaged recordings of every container and coding to the server, for ten seconds or FUZZ_SECONDS."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from helpers import recordings
from helpers.emotion_server import emotion_server, records
from helpers.tiny_package import make_package

SECONDS = float(os.environ.get("FUZZ_SECONDS", "10"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_damaged_recordings(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package").folder
    known = [recordings.lossy(name, 0.5) for name in recordings.LOSSY] + list(recordings.codings(0.5).values())
    with emotion_server(tmp_path / "server", "--model", package, processes=2, answer_seconds=50.0) as server:
        for start in range(0, len(known), 16):  # the baseline: every decoder has been loaded
            server.ask(records(*known[start : start + 16]))
            for one in known[start : start + 16]:
                server.ask(records(one))
        before, workers = server.memory(), {one.pid for one in server.workers()}
        statuses: dict[int, int] = {}
        peak, end = before, time.monotonic() + SECONDS

        def fuzz(seed: int) -> None:
            draw = random.Random(seed)
            while time.monotonic() < end:
                status, _, _ = server.ask(records(damaged(draw, known)))
                statuses[status] = statuses.get(status, 0) + 1

        threads = [threading.Thread(target=fuzz, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, server.memory())
            time.sleep(0.05)

        lost = server.events("worker ended") + server.events("worker timed out")
        print(f"{len(known)} codings, statuses {statuses}, {len(lost)} lost workers, memory {peak / before:.2f} times")
        assert set(statuses) == {200, 400}
        assert lost == []
        assert {one.pid for one in server.workers()} == workers
        assert server.events("error") == []
        assert peak < 2 * before


def damaged(draw: random.Random, known: list[bytes]) -> bytes:
    """Return a recording with some of its bytes changed, left out, doubled or taken from another."""
    found = bytearray(draw.choice(known))
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        # the head decides most
        start = int(len(found) * draw.random() ** 4)
        length = draw.choice((1, 1, 2, 4, 16, 256))
        match draw.randrange(6):
            case 0 if found:
                found[min(start, len(found) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                found[start : start + length] = draw.randbytes(length)
            case 2:
                del found[start : start + length]
            case 3:
                found[start:start] = found[start : start + length]
            case 4:
                found[start : start + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            case _:
                other = draw.choice(known)
                at = draw.randrange(len(other))
                found[start : start + length] = other[at : at + length]
    return bytes(found) or b"\0"
