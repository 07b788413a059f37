"""Items that wait run together, and one that fails does not fail the others."""

import asyncio

from speech_emotion.core.batching import Batcher


async def outcomes(items: list[int]) -> tuple[list[list[int]], list[object]]:
    """Return the batches of one slot, and the result or exception of each item; a batch with 5 fails."""
    batches: list[list[int]] = []

    async def halve(batch: list[int]) -> list[float]:
        batches.append(batch)
        await asyncio.sleep(0.01)
        if 5 in batch:
            raise TimeoutError
        return [one / 2 for one in batch]

    batcher = Batcher(halve, slots=1, fits=lambda batch: len(batch) <= 3, alone=(TimeoutError,))
    return batches, await asyncio.gather(*map(batcher, items), return_exceptions=True)


def test_waiting_items_run_together_or_alone_after_a_failure() -> None:
    batches, found = asyncio.run(outcomes([0, 1, 2, 3, 4, 5, 6]))

    assert batches == [[0, 1, 2], [3, 4, 5], [6], [3], [4], [5]]
    assert [type(one) if isinstance(one, Exception) else one for one in found] == [0, 0.5, 1, 1.5, 2, TimeoutError, 3]
