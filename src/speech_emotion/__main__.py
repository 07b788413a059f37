"""Takes `python -m speech_emotion …`; gives what `speech-emotion …` does."""

from speech_emotion.cli import main

main()
