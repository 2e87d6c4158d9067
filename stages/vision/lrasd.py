"""LR-ASD, a light network that tells from lips and sound whether a face speaks.

Liao et al., "LR-ASD: Lightweight and Robust Network for Active Speaker Detection" (IJCV 2025), 0.84 M parameters. Our
own build of the published architecture as an ONNX graph around the authors' weights (MIT licence), run by ONNX Runtime:
on a CUDA card where its build supports one, else on the CPU. Two convolutional encoders (faces: space then time; sound:
frequency then time), gated fusion, a recurrent layer each way, and a score per picture: above 0, the face speaks.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.vision.weights import read_state

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

WEIGHTS_FILE = "lr_asd_finetuning_talkset.model"
WEIGHTS_SHA256 = "6b4ef53694e874e96cf630198dc479c78aebb3993bbf166aee3d926dfe7d9342"
PICTURE_HZ = 25
SOUND_PER_PICTURE = 4
SIDE_PX = 112
SPAN = 0.7
"""Side of the square it sees, in face heights; its centre lies 0.2 face heights below the face's: mouth and chin."""
CENTRE_DOWN = 0.2
_BATCH_NORM_EPSILON = 1e-3
_MEAN, _SPREAD = 0.4161 * 255, 0.1688 * 255
_CHANNELS = ((1, 32), (32, 64), (64, 128))


def missing(models_dir: Path) -> str | None:
    """What keeps LR-ASD from running here, in words, or None."""
    absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    try:
        content = (models_dir / WEIGHTS_FILE).read_bytes()
    except OSError:
        return f"its weights are not on the box ({models_dir / WEIGHTS_FILE})"
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        return f"its weights {models_dir / WEIGHTS_FILE} are damaged or of another version (their sha256 differs)"
    return None


def cuda_at_hand() -> bool:
    """Whether the installed ONNX Runtime can use a CUDA card."""
    if find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


class LrAsd:
    """The network, loaded. Raises ValueError when the weights do not fit the architecture."""

    def __init__(self, weights: Path, *, cuda: bool, threads: int) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        settings.enable_mem_pattern = False  # a plan per window length costs more memory than it saves time
        # idle threads of the network must sleep: decoding and searching want the cores between two windows
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CUDAExecutionProvider"] if cuda else []
        self._session: Any = onnxruntime.InferenceSession(
            build(weights).SerializeToString(), settings, providers=[*providers, "CPUExecutionProvider"]
        )
        self.device = "cuda" if self._session.get_providers()[0] == "CUDAExecutionProvider" else "cpu"

    def score(self, faces: Bytes, sound: Floats) -> Floats:
        """(n) scores for `faces` (n, 112, 112) grey at PICTURE_HZ and `sound` (4 n, 13) cepstra of the same time."""
        if len(sound) != SOUND_PER_PICTURE * len(faces) or len(faces) == 0:
            raise ValueError(f"{len(faces)} pictures need {SOUND_PER_PICTURE * len(faces)} steps of sound")
        [scores] = self._session.run(None, {"faces": faces.astype(np.float32), "sound": sound.astype(np.float32)})
        return np.asarray(scores, dtype=np.float32)


def build(weights: Path) -> ModelProto:
    """The ONNX model. Spatial convolutions take time as the batch, temporal ones take space as the width: both run as
    plain two-dimensional convolutions, with batch normalisation folded in."""
    from onnx import TensorProto, checker, helper

    graph = _Graph(read_state(weights))
    video = graph.add("Div", [graph.add("Sub", ["faces", graph.constant(np.float32(_MEAN))]),
                              graph.constant(np.float32(_SPREAD))])  # fmt: skip
    video = graph.add("Unsqueeze", [video, graph.axes(1)])
    for block, (_, channels) in enumerate(_CHANNELS, 1):
        name = f"model.visualEncoder.block{block}"
        stride = 2 if block == 1 else 1
        video = graph.convolution(f"{name}.s_1", f"{name}.s_norm_1", video, pads=(2, 2), strides=(stride, stride))
        video = graph.convolution(f"{name}.s_2", f"{name}.s_norm_2", video, pads=(1, 1))
        side = SIDE_PX // 2**block
        video = graph.add("Transpose", [video], perm=[1, 0, 2, 3])
        video = graph.add("Reshape", [video, graph.shape(1, channels, -1, side * side)])
        video = graph.convolution(f"{name}.t_1", f"{name}.t_norm_1", video, pads=(2, 0))
        video = graph.convolution(f"{name}.t_2", f"{name}.t_norm_2", video, pads=(1, 0))
        video = graph.add("Reshape", [video, graph.shape(channels, -1, side, side)])
        video = graph.add("Transpose", [video], perm=[1, 0, 2, 3])
        if block < len(_CHANNELS):
            video = graph.add("MaxPool", [video], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    video = graph.add("ReduceMax", [video, graph.axes(2, 3)], keepdims=0)

    sound = graph.add("Unsqueeze", [graph.add("Transpose", ["sound"], perm=[1, 0]), graph.axes(0, 1)])
    for block in range(1, len(_CHANNELS) + 1):
        name = f"model.audioEncoder.block{block}"
        sound = graph.convolution(f"{name}.m_1", f"{name}.m_norm_1", sound, pads=(2, 0))
        sound = graph.convolution(f"{name}.m_2", f"{name}.m_norm_2", sound, pads=(1, 0))
        sound = graph.convolution(f"{name}.t_1", f"{name}.t_norm_1", sound, pads=(0, 2))
        sound = graph.convolution(f"{name}.t_2", f"{name}.t_norm_2", sound, pads=(0, 1))
        if block < len(_CHANNELS):
            sound = graph.add("MaxPool", [sound], kernel_shape=[1, 3], strides=[1, 2], pads=[0, 1, 0, 1])
    sound = graph.add("ReduceMean", [sound, graph.axes(0, 2)], keepdims=0)
    sound = graph.add("Transpose", [sound], perm=[1, 0])

    both = graph.gate("model.fusion", graph.add("Concat", [sound, video], axis=1))
    both = graph.gate("model.detector.attention", graph.recurrent("model.detector", both))
    scores = graph.add("Gemm", [both, graph.weight("lossAV.FC.weight"), graph.weight("lossAV.FC.bias")], transB=1)
    graph.add("Gather", [scores, graph.constant(np.int64(1))], axis=1, output="scores")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "lr_asd",
            [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["pictures", SIDE_PX, SIDE_PX]),
             helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["steps", 13])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["pictures"])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=9,
    )  # fmt: skip
    checker.check_model(model)
    return model


class _Graph:
    """Nodes and tensors in the order they are added. Every weight is looked up by its name in the authors' file."""

    def __init__(self, state: dict[str, NDArray[Any]]) -> None:
        self._state = state
        self.nodes: list[NodeProto] = []
        self.tensors: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def axes(self, *axes: int) -> str:
        return self.constant(np.array(axes, np.int64))

    shape = axes

    def weight(self, name: str) -> str:
        return self.constant(self._weight(name))

    def convolution(
        self, name: str, norm: str, inputs: str, *, pads: tuple[int, int], strides: tuple[int, int] = (1, 1)
    ) -> str:
        """Two-dimensional convolution with its normalisation folded in, then ReLU."""
        kernel = self._weight(f"{name}.weight")
        if kernel.ndim == 5:  # three-dimensional: drop the time axis of (1, k, k), a space axis of (k, 1, 1)
            kernel = kernel[:, :, 0] if kernel.shape[2] == 1 else kernel[..., 0]
        gain, bias = self._norm(norm)
        folded = (kernel * gain[:, None, None, None]).astype(np.float32)
        convolved = self.add(
            "Conv", [inputs, self.constant(folded), self.constant(bias)],
            kernel_shape=list(kernel.shape[2:]), pads=[*pads, *pads], strides=list(strides),
        )  # fmt: skip
        return self.add("Relu", [convolved])

    def gate(self, name: str, inputs: str) -> str:
        """`inputs` (steps, channels) times a sigmoid of a normalised linear map of itself."""
        gain, bias = self._norm(f"{name}.bn")
        kernel = (self._weight(f"{name}.attention.weight")[..., 0] * gain[:, None]).astype(np.float32)
        mapped = self.add("Gemm", [inputs, self.constant(kernel), self.constant(bias)], transB=1)
        return self.add("Mul", [inputs, self.add("Sigmoid", [mapped])])

    def recurrent(self, name: str, inputs: str) -> str:
        """Gated recurrent units forward and backward, (steps, channels) to (steps, 2 x hidden)."""
        ways = [f"{name}.gru_forward", f"{name}.gru_backward"]
        into = np.stack([self._gates(f"{way}.weight_ih_l0") for way in ways])
        again = np.stack([self._gates(f"{way}.weight_hh_l0") for way in ways])
        bias = np.stack(
            [np.concatenate([self._gates(f"{way}.bias_ih_l0"), self._gates(f"{way}.bias_hh_l0")]) for way in ways]
        )
        hidden = again.shape[2]
        batch = self.add("Unsqueeze", [inputs, self.axes(1)])
        # linear_before_reset: the reset gate acts after the recurrent map, as PyTorch trains it
        out = self.add(
            "GRU", [batch, self.constant(into), self.constant(again), self.constant(bias)],
            hidden_size=hidden, direction="bidirectional", linear_before_reset=1,
        )  # fmt: skip
        return self.add("Reshape", [out, self.shape(-1, 2 * hidden)])

    def _gates(self, name: str) -> Floats:
        """PyTorch stacks reset, update, new; ONNX wants update, reset, new."""
        reset, update, new = np.split(self._weight(name), 3)
        return np.concatenate([update, reset, new])

    def _norm(self, name: str) -> tuple[Floats, Floats]:
        """Gain and bias that a trained batch normalisation amounts to."""
        gain = self._weight(f"{name}.weight") / np.sqrt(self._weight(f"{name}.running_var") + _BATCH_NORM_EPSILON)
        bias = self._weight(f"{name}.bias") - self._weight(f"{name}.running_mean") * gain
        return gain.astype(np.float32), bias.astype(np.float32)

    def _weight(self, name: str) -> Floats:
        try:
            return np.asarray(self._state[name], dtype=np.float32)
        except KeyError:
            raise ValueError(f"these are not LR-ASD's weights: {name} is missing") from None
