"""`python -m fsp_tf.reproduce`: the paper's tables and its figure, over seeds."""
