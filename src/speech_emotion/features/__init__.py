"""Features: `mfcc.Extractor` computes the frames, with the tracks of `prosody`, in training and in prediction."""
