"""Energies of a sound in frequency bands, roughly what an ear perceives."""

import numpy as np


def bands(xs: np.ndarray, rate: int, number: int = 12) -> np.ndarray:
    """Log energies of xs (N, samples) in bands of equal width on the mel scale, (N, number)."""
    spectrum = np.abs(np.fft.rfft(xs * np.hanning(xs.shape[1]), axis=1)) ** 2
    mel = np.log1p(np.fft.rfftfreq(xs.shape[1], 1 / rate) / 700)
    centres = np.linspace(0, mel[-1], number + 2)[1:-1, None]
    weights = np.maximum(1 - np.abs(mel - centres) / centres[0], 0)  # triangles
    return np.log(spectrum @ weights.T + 1e-3)  # about 1e-6 of the total energy
