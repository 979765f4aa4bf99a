"""Trains small, fast image classifiers by distilling how a larger network solves the task (Yim et al., CVPR 2017).

  python -m fsp_tf.main --flagfile=flags/demo.cfg        the whole job on handwritten digits, in minutes
  python -m fsp_tf.main --flagfile=flags/cifar10.cfg     the whole job on CIFAR-10

A flagfile's values can be overridden by flags after it.
"""

import os
import sys

from absl import app, flags, logging

from fsp_tf import config
from fsp_tf.errors import UserError

config.define_flags()
flags.adopt_module_key_flags(config)


def main(arguments: list[str]) -> None:
    """Builds the `Config` and calls its pipeline."""
    try:
        if len(arguments) > 1:
            raise UserError(f"flags start with --, got {arguments[1]!r}; see --help.")
        run_config = config.from_flags()
        logging.set_verbosity(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        from fsp_tf import pipelines  # here, so that --help and a mistyped flag need no TensorFlow

        pipelines.run_pipeline(run_config)
    except UserError as error:
        sys.exit(f"fsp_tf: {error}")
    except KeyboardInterrupt:
        print("\nfsp_tf: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    app.run(main)
