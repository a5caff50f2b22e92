"""Weights that leave and come in: ONNX, safetensors, and the names that other programs use."""
