"""Latency (p50, p99), rate and status codes of a scoring server under many clients.

    speech-emotion serve &
    python benchmarks/serving.py --clients 200 --seconds 60

Each client keeps its connection, sends one recording after the other, and waits after a 503 as Retry-After says.
Server and clients share the cores of this machine.
"""

import argparse
import asyncio
import base64
import io
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soundfile


async def client(host: str, port: int, request: bytes, end: float, statuses: Counter, seconds: list[float]) -> None:
    """Send requests over one connection until the time is over; open another when it closes."""
    writer = None
    while time.monotonic() < end:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            began = time.monotonic()
            writer.write(request)
            status, headers, body = await read_response(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            statuses[type(error).__name__] += 1
            writer = None
            await asyncio.sleep(0.05)
            continue
        if status == 200 and b'"predictions"' in body:
            seconds.append(time.monotonic() - began)
            statuses["200"] += 1
        elif status == 503 and "retry-after" in headers:
            statuses["503"] += 1
            await asyncio.sleep(int(headers["retry-after"]) * random.uniform(0.5, 1.5))  # spread the clients out
        else:
            statuses[f"{status}, unexpected"] += 1
        if headers.get("connection") == "close":
            writer.close()
            writer = None


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a response."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def synthetic_recording() -> bytes:
    """Return a WAV file with two seconds of a voiced sound."""
    moments = np.arange(32_000) / 16_000
    sound = sum(np.sin(2 * np.pi * 140 * n * moments) / n for n in range(1, 12)) * np.hanning(len(moments))
    file = io.BytesIO()
    soundfile.write(file, 0.2 * sound, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def main() -> None:
    """Run the clients and print what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", default="http://127.0.0.1:5001")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--recording", type=Path, help="file to send; default: two seconds of a synthetic sound")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    address = urlsplit(options.uri)
    host, port = address.hostname or "", address.port or 80
    audio = base64.b64encode(options.recording.read_bytes() if options.recording else synthetic_recording()).decode()
    body = json.dumps({"dataframe_records": [{"audio": audio}]}).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    statuses: Counter = Counter()
    seconds: list[float] = []
    end = time.monotonic() + options.seconds
    await asyncio.gather(*(client(host, port, request, end, statuses, seconds) for _ in range(options.clients)))
    if set(statuses) <= {"ConnectionRefusedError"}:
        sys.exit(f"error: {options.uri} does not answer. `speech-emotion serve` starts a server there.")
    p50, p99 = (1000 * np.percentile(seconds, [50, 99])).round(1).tolist() if seconds else (None, None)
    rate = round(len(seconds) / options.seconds, 1)
    found = {"clients": options.clients, "statuses": dict(statuses), "rate": rate, "p50_ms": p50, "p99_ms": p99}
    print(json.dumps(found) if options.json else "\n".join(f"{name:>9}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    asyncio.run(main())
