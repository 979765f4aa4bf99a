"""Sample image files: valid ones of every kind, refused ones with the reason, decompression bombs, random damage."""

import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

SIDE = 16
OTHER, TOO_LARGE, BROKEN = "neither JPEG nor PNG", "more than 16,777,216 pixels", "cannot be decoded"  # reasons


def pixels(mode: str = "RGB", height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Returns a picture of smooth colors."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    colors = np.stack([rows, columns, (rows + columns) / 2], axis=-1)
    return Image.fromarray((255 * colors).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int) -> bytes:
    """Returns a small file whose header claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(3000))) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """Returns a small file whose header claims a size."""
    data = bytearray(encoded(pixels(), "JPEG"))
    sizes = data.index(b"\xff\xc0") + 5
    data[sizes : sizes + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def exif_of_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


ROTATED = exif_of_orientation(6)
JPEG, PNG = encoded(pixels(), "JPEG", quality=95), encoded(pixels(), "PNG")


def deep_png(mode: str) -> bytes:
    """Returns a file of 16 bits per sample, of which the upper 8 are the picture's."""
    samples = np.atleast_3d(np.asarray(pixels(mode))).astype(np.uint16) * 256 + 77
    return tf.io.encode_png(samples).numpy()


ACCEPTED = {  # the file, and the largest difference from another decoder: TensorFlow uses the fast inverse DCT
    "jpeg": (JPEG, 8),
    "progressive_jpeg": (encoded(pixels(), "JPEG", quality=95, progressive=True), 8),
    "gray_jpeg": (encoded(pixels("L"), "JPEG", quality=95), 8),
    "rotated_jpeg": (encoded(pixels(), "JPEG", quality=95, exif=ROTATED), 8),  # decoders ignore the orientation
    "png": (PNG, 0),
    "gray_png": (encoded(pixels("L"), "PNG"), 0),
    "black_and_white_png": (encoded(pixels("1"), "PNG"), 0),
    "palette_png": (encoded(pixels("P"), "PNG"), 0),
    "transparent_palette_png": (encoded(pixels("P"), "PNG", transparency=3), 0),
    "alpha_png": (encoded(pixels("RGBA"), "PNG"), 0),
    "gray_alpha_png": (encoded(pixels("LA"), "PNG"), 0),
}

REFUSED = {
    "truncated_jpeg": (JPEG[: len(JPEG) * 2 // 3], BROKEN),
    "truncated_png": (PNG[: len(PNG) * 2 // 3], BROKEN),
    "jpeg_start_alone": (JPEG[:3], BROKEN),
    "png_start_alone": (PNG[:8], BROKEN),
    "png_header_alone": (PNG[:33], BROKEN),
    "gif": (encoded(pixels(), "GIF"), OTHER),
    "bmp": (encoded(pixels(), "BMP"), OTHER),
    "text": (b"no image", OTHER),
    "empty": (b"", OTHER),
    "wide_0": (png_of(0, 16), BROKEN),
    "high_0": (png_of(16, 0), BROKEN),
    "png_of_another_size": (png_of(500, 500), BROKEN),
    "jpeg_wide_0": (jpeg_of(0, 16), BROKEN),
    "png_bomb": (png_of(2**31 - 1, 2**31 - 1), TOO_LARGE),
    "png_just_too_large": (png_of(4096, 4097), TOO_LARGE),
    "png_just_not_too_large": (png_of(4096, 4096), BROKEN),
    "jpeg_bomb": (jpeg_of(65500, 65500), TOO_LARGE),
    "long_and_narrow": (encoded(pixels("L", 1, 70000), "PNG"), TOO_LARGE),
}


def png_with(name: bytes, data: bytes, *, in_front: bytes = b"") -> bytes:
    """Returns a picture of 16x16 with another chunk after its header."""
    return PNG[:33] + chunk(name, in_front + data) + PNG[33:]


def bombs() -> dict[str, bytes]:
    """Returns small files that unpack to many bytes. Reading one must need little memory, accepted or not."""
    zeros = zlib.compress(bytes(200_000_000))
    header = PNG[:33]
    return {
        "pixels": header + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "text": png_with(b"zTXt", zeros, in_front=b"Comment\0\0"),
        "profile": png_with(b"iCCP", zeros, in_front=b"profile\0\0"),
        "largest_accepted": encoded(Image.new("RGB", (4096, 4096)), "PNG"),
        "largest_accepted_in_16_bits": tf.io.encode_png(tf.zeros([4096, 4096, 3], tf.uint16)).numpy(),
    }


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG with the checksums of its chunks corrected, as far as its lengths can be followed."""
    found, position = bytearray(data), 8
    while position + 12 <= len(found):
        (length,) = struct.unpack_from(">I", found, position)
        end = position + 8 + length
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[position + 4 : end]))
        position = end + 4
    return bytes(found)


def mutated(rng: np.random.Generator, seeds: list[bytes]) -> bytes:
    """Returns a file with a few changes: bytes, runs of bytes, a cut, a gap, a splice with another."""
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, 4)):
        change, where = rng.integers(6), int(rng.integers(max(1, min(len(data), int(rng.choice([40, 10**6, 10**6]))))))
        if change <= 1 and data:
            data[where] = rng.integers(256)
        elif change == 2:
            data[where : where + 4] = rng.bytes(4)
        elif change == 3:
            data = data[:where]
        elif change == 4:
            del data[where : where + int(rng.integers(1, 30))]
        else:
            other = seeds[rng.integers(len(seeds))]
            data[where:] = other[int(rng.integers(max(1, len(other)))) :]
    found = bytes(data)
    return with_checksums(found) if found[:4] == PNG[:4] and rng.random() < 0.7 else found
