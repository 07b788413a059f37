"""The page of `speech-emotion app`: a person records or drops a file, and sees what the model hears."""
