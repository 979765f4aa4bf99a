"""Custom models: a functional teacher that ends in probabilities, and a sequential student that ends in logits."""

import keras


def teacher_model() -> keras.Model:
    """Builds a functional CNN that ends in probabilities."""
    images = keras.Input((32, 32, 1), name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="early")(x)
    x = keras.layers.MaxPooling2D(name="pooled")(x)
    x = keras.layers.Conv2D(20, 3, padding="same", activation="relu", name="late")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(x), name="theirs")


def student_model(channels=(12, 20)) -> keras.Model:
    """Builds a sequential CNN with batch normalization that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(channels[0], 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(name="first"),
            keras.layers.Conv2D(channels[1], 3, strides=2, padding="same", activation="relu", name="second"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ],
        name="mine",
    )
