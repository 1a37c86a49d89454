"""The server: TensorFlow Serving's REST and gRPC protocols over a directory of artefacts."""
