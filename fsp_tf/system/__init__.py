"""Files, signals, the console and error messages."""
