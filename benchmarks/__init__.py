"""What the claims of speed are measured with: one module per command, such as `python -m benchmarks.training`."""
