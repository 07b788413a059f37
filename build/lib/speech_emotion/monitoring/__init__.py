"""What comes in, in use, held against what the model was trained on."""
