"""Models for other runtimes: ONNX and torch."""

__all__ = []
