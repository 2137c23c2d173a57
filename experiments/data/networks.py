"""The arrays of networks that others have trained and published on the package index."""

import io
import json
import math
import struct

import numpy as np

from experiments.data.wheels import member

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def spelling_network() -> dict[str, np.ndarray]:
    """g2p-en, from letters to phones: an encoder and a decoder, each a PyTorch GRU of 256 units.

    Arrays have names such as enc_w_ih. The embeddings are enc_emb (29, 256) and dec_emb (74, 256),
    the readout is fc_w and fc_b. By Kyubyong Park and Jongseok Kim, github.com/Kyubyong/g2p.
    """
    with np.load(io.BytesIO(member("spelling", "g2p_en/checkpoint20.npz"))) as arrays:
        return dict(arrays)


def voice_network() -> dict[str, np.ndarray]:
    """Silero VAD for sound at 16 kHz: four convolutions, an LSTMCell of 128 units and a readout.

    By the Silero Team, github.com/snakers4/silero-vad.
    """
    return safetensors(member("voices", "silero_vad/data/silero_vad_16k.safetensors"))


def safetensors(raw: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file in the safetensors format, which has a JSON header, then the bytes.

    Raises ValueError if the file has another format, or numbers of a type that NumPy lacks.
    """
    try:
        (size,) = struct.unpack("<Q", raw[:8])
        header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
            begin, end = entry["data_offsets"]
            if end - begin != dtype.itemsize * math.prod(shape) or end > len(body):
                raise ValueError(f"{name} {shape} has {end - begin} bytes of {len(body)}")
            found[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
    except (struct.error, AttributeError, KeyError, TypeError, ValueError) as error:
        known = ", ".join(DTYPES)
        raise ValueError(f"not a safetensors file with numbers of {known} ({error!r})") from error
    return found
