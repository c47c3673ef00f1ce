"""HTTP: requests become sends and receives, and outcomes become answers."""
