"""Every choice of a run: the frozen dataclass, its validation, and the flags made from it."""

from fsp_tf.config.choices import APPLICATION, EXPORT_FORMATS, METHODS, Config, decisive_fields, fields
from fsp_tf.config.flags import define_flags, from_flags, parse, to_flags
