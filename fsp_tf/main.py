"""Trains small, fast image classifiers by distilling how a larger network solves the task (Yim et al., CVPR 2017).

  python -m fsp_tf.main --flagfile=flags/demo.cfg        the whole job on handwritten digits, in minutes
  python -m fsp_tf.main --flagfile=flags/cifar10.cfg     the whole job on CIFAR-10

A flagfile's values can be overridden by flags after it. --verbosity=-1 leaves the progress out, -2 the warnings too; 1
adds TensorFlow's own notes.
"""

from absl import app, flags

from fsp_tf import config
from fsp_tf.config import command_line

config.define_flags()
flags.adopt_module_key_flags(config.flags)


def main(arguments: list[str]) -> None:
    """Builds the `Config` and calls its pipeline."""
    with command_line.mistakes_told():
        command_line.refuse_words(arguments)
        run_config = config.from_flags()
        command_line.prepare_tensorflow()
        from fsp_tf import runs  # here, so that --help and a mistyped flag need no TensorFlow

        runs.run_pipeline(run_config)


if __name__ == "__main__":
    app.run(main, flags_parser=config.parse)
