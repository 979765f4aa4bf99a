"""Runs: the pipelines, the trainers of their phases, and the folder of their results."""

from fsp_tf.runs.pipeline import run_pipeline
from fsp_tf.runs.run import Run
