"""MFCC, prosody, augmentation and the feature store."""
