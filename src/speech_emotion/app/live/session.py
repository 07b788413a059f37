"""Run a live session until the audio ends or Ctrl-C."""

from speech_emotion.app.live.screen import Screen, Tally
from speech_emotion.app.live.sources import Source
from speech_emotion.app.live.stream import Stream
from speech_emotion.config.serving import WindowSettings
from speech_emotion.inference.recognizer import Recognizer


def listen(source: Source, recognizer: Recognizer, settings: WindowSettings, screen: Screen) -> Tally:
    """Predict the audio window by window and return a summary.

    Ctrl-C ends the session; an incomplete window is then not predicted.
    """
    tally = Tally()
    with source, screen:
        stream = Stream(recognizer, settings, source.sample_rate)
        try:
            for block in source:
                for moment in stream.feed(block):
                    tally.add(moment)
                    screen.show(moment)
                screen.sound(block.samples, stream.seconds, source.lost)
            for moment in stream.finish():
                tally.add(moment)
                screen.show(moment)
        except KeyboardInterrupt:
            pass
    return tally
