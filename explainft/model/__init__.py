"""T5 in Flax Linen: layers, loss, quantization and the count of FLOPs.

Lives here: pure functions of parameters and arrays.
May not: read or write files, or import TensorFlow, data pipelines or a mesh of devices.
"""
