"""Files, signals, the console, and errors that a user can correct."""
