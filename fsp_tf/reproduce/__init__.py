"""Reproduction of the paper's tables and Figure 3 over seeds: `python -m fsp_tf.reproduce`."""
