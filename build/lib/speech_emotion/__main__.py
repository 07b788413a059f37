"""Run `python -m speech_emotion` as `speech-emotion`."""

from speech_emotion.cli import main

main()
