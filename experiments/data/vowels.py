"""Spoken vowels: a folder of recordings, or synthetic voices from a source and a filter."""

import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Mean formants (resonances of the vocal tract, Hz) and mean pitch (Hz) of men and women who say
# these vowels, rounded from Hillenbrand et al. 1995, doi:10.1121/1.411872
FORMANTS = {
    "ae": ((590, 1950, 2600), (670, 2350, 2970)),
    "ei": ((480, 2090, 2690), (540, 2530, 3050)),
    "iy": ((340, 2320, 3000), (440, 2760, 3370)),
}
PITCH = (130, 220)
BANDWIDTHS = (80, 100, 150)  # Hz, of each resonance


class Vowels(NamedTuple):
    """Recordings of equal length, with mean 0 and mean square 1, and their vowels and speakers."""

    xs: np.ndarray  # (N, samples) float32
    labels: np.ndarray  # (N,) int32, index of the vowel
    speakers: np.ndarray  # (N,) int32
    classes: list[str]  # the names of the vowels


def vowels(data_dir: Path, rate: int, samples: int) -> Vowels:
    """The middle of every <speaker><vowel>.wav in a folder, at `rate` samples per second.

    The last two letters of a name are the vowel. Recordings must be mono, with 16 bits. Raises
    FileNotFoundError if there are none, and ValueError if one is damaged, silent or too short.
    """
    paths = sorted(data_dir.glob("*.wav"))
    if not paths:
        raise FileNotFoundError(
            f"{data_dir} has no *.wav; it must have recordings named <speaker><vowel>.wav, with "
            "two letters for the vowel, such as m01ae.wav"
        )
    short = [path.name for path in paths if len(path.stem) < 3]
    if short:
        raise ValueError(
            f"{short[0]} in {data_dir} must be named <speaker><vowel>.wav, such as m01ae.wav"
        )
    xs = np.stack([_middle(_resampled(path, rate), samples, str(path)) for path in paths])
    classes, labels = np.unique([path.stem[-2:] for path in paths], return_inverse=True)
    speakers = np.unique([path.stem[:-2] for path in paths], return_inverse=True)[1]
    return Vowels(xs, labels.astype(np.int32), speakers.astype(np.int32), classes.tolist())


def _resampled(path: Path, rate: int) -> np.ndarray:
    """Resample a recording by its Fourier series."""
    try:
        with wave.open(str(path)) as file:
            form, had = (file.getnchannels(), file.getsampwidth()), file.getframerate()
            raw, count = file.readframes(file.getnframes()), file.getnframes()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a whole WAV file ({error}); fetch it again") from error
    if form != (1, 2):
        raise ValueError(
            f"{path} has {form[0]} channels of {8 * form[1]} bits; it must have 1 of 16 bits"
        )
    if len(raw) != 2 * count or not count:
        raise ValueError(f"{path} has {len(raw)} of {2 * count} bytes; fetch it again")
    x = np.frombuffer(raw, "<i2").astype(float)
    return np.fft.irfft(np.fft.rfft(x), round(count * rate / had))


def _middle(x: np.ndarray, samples: int, name: str) -> np.ndarray:
    """The middle samples of x, scaled to mean 0 and mean square 1."""
    if len(x) < samples:
        raise ValueError(f"{name} has {len(x)} samples at this rate; {samples} are needed")
    begin = (len(x) - samples) // 2
    x = x[begin : begin + samples] - x[begin : begin + samples].mean()
    size = np.sqrt(np.mean(x**2))
    if size == 0:
        raise ValueError(f"{name} is silent in its middle {samples} samples; leave it out")
    return (x / size).astype(np.float32)


def synthetic_vowels(speakers: int, rate: int, samples: int, seed: int = 0) -> Vowels:
    """The three vowels of `FORMANTS`, each said once by every speaker, men and women in turn.

    The voices follow the source-filter model. Pulses at the speaker's pitch, with jitter and
    breath, pass through a chain of resonators at the speaker's formants. Between speakers, the
    pitch varies by 12 % and the length of the vocal tract by 6 %. Between recordings, each formant
    varies by 3 %.
    """
    rng = np.random.default_rng(seed)
    xs = []
    for speaker in range(speakers):
        pitch = PITCH[speaker % 2] * np.exp(0.12 * rng.normal())
        tract = np.exp(0.06 * rng.normal())
        for means in FORMANTS.values():
            formants = np.array(means[speaker % 2]) * tract * np.exp(0.03 * rng.normal(size=3))
            xs.append(_middle(_voice(rng, pitch, formants, rate, 2 * samples), samples, "a voice"))
    labels, who = np.tile(np.arange(3), speakers), np.repeat(np.arange(speakers), 3)
    return Vowels(np.stack(xs), labels.astype(np.int32), who.astype(np.int32), list(FORMANTS))


def _voice(
    rng: np.random.Generator, pitch: float, formants: np.ndarray, rate: int, samples: int
) -> np.ndarray:
    """Pulses at this pitch, filtered by resonators at these formants, (samples,)."""
    periods = rate / pitch * (1 + 0.01 * rng.normal(size=int(samples * pitch / rate) + 2))
    at = np.cumsum(periods) - periods[0] * rng.random()
    source = 0.02 * rng.normal(size=samples)  # breath
    source[at[at < samples].astype(int)] += 1
    f = np.fft.rfftfreq(samples, 1 / rate)
    response = 1 / (1 + 1j * f / 100)  # glottis and lips: -6 dB per octave
    for formant, width in zip(formants, BANDWIDTHS, strict=True):
        response = response * formant**2 / (formant**2 - f**2 + 1j * f * width)
    return np.fft.irfft(np.fft.rfft(source) * response, samples)
