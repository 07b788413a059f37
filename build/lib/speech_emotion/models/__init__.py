"""The network, its training, calibration, ONNX export and the package format."""
