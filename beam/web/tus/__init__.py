"""Resumable uploads by the protocol tus 1.0.0, as transfers whose senders come and go."""
