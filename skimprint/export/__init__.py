"""Models for other runtimes: ONNX and torch."""

from ._exports import register_skl2onnx, to_onnx, to_torch

__all__ = ["register_skl2onnx", "to_onnx", "to_torch"]
