"""Where utterances come from: `opening` gives a corpus, one module a kind of corpus says what it is.

Nothing is imported here: a stage that reads a manifest does not depend on the code of every corpus.
"""
