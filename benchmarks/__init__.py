"""What the claims of speed are measured with: `python -m benchmarks.training` and `python -m benchmarks.data`."""
