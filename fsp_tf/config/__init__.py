"""Every choice of a run: the frozen dataclass, its validation, and the flags made from it."""

from fsp_tf.config.choices import APPLICATION, UNKNOWN, Config, decisive_fields, fields, fixed_fields
from fsp_tf.config.flags import define_flags, from_flags, parse, to_flags
from fsp_tf.config.fsp_pairs import parse_pairs
from fsp_tf.config.learning_choices import METHODS
from fsp_tf.config.run_choices import EXPORT_FORMATS
