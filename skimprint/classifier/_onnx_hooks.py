"""What skl2onnx asks of models that it does not know."""


class OnnxHooks:
    """Tell skl2onnx how to convert a classifier, without an import of it before.

    skl2onnx looks for these three methods of models that nobody has registered with it.
    """

    def onnx_parser(self):
        from ..export import _skl2onnx

        return lambda scope, inputs: _skl2onnx.outputs_in(scope, self)

    def onnx_shape_calculator(self):
        from ..export import _skl2onnx

        return _skl2onnx.shapes

    def onnx_converter(self):
        from ..export import _skl2onnx

        return _skl2onnx.convert
