"""Decode any audio container to mono float32."""
