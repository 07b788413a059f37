"""What `speech-emotion listen` does: sound as it comes, answered window by window."""
