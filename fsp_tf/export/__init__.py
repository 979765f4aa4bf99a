"""Exports a student as a verified SavedModel, LiteRT and ONNX, in numbered version folders with model cards."""

from fsp_tf.export.formats import FILES, QUANTIZED, calibration_images, package_versions
from fsp_tf.export.saved_model import export_saved_model, folder_bytes
from fsp_tf.export.version_folders import export_student, versions_in
