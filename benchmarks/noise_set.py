"""A set of noise that TFDS prepares in any of its file formats; in a module of its own, by which TFDS knows it."""

import numpy as np
import tensorflow_datasets as tfds

PICTURES = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), np.uint8)


class Noise(tfds.core.GeneratorBasedBuilder):
    """Two hundred pictures, over and over, and ten labels."""

    VERSION = tfds.core.Version("1.0.0")
    num_images = 0

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(self.num_images):
            yield number, {"image": PICTURES[number % 200], "label": number % 10}


def write_set(file_format: str, num_images: int, folder: str) -> None:
    """Has TFDS prepare `noise` in a folder."""
    tfds.disable_progress_bar()
    builder = Noise(data_dir=folder, file_format=file_format)
    builder.num_images = num_images
    builder.download_and_prepare()
