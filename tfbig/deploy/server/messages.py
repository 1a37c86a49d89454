"""Protocol messages and arrays.

TensorProto within limits, SignatureDefs for people and as metadata.
"""

from __future__ import annotations

import math

from tfbig.core.lazy import np, tf
from tfbig.deploy.server.servable import Servable
from tfbig.deploy.server.status import Failure, invalid


def arrays(protos, most_bytes: int) -> dict[str, np.ndarray]:
    """Named TensorProtos as arrays that are together no larger than `most_bytes`."""
    values = {}
    for name, proto in protos.items():
        values[name] = array(proto, most_bytes)
        most_bytes -= values[name].nbytes
    return values


def array(proto, most_bytes: int) -> np.ndarray:
    """A TensorProto as an array; a small message cannot claim a large one.

    Args:
        proto: the message.
        most_bytes: largest array in bytes, of the repeated value that the format allows too.
    """
    dims = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(dim < 0 for dim in dims):
        raise invalid("tensor_shape: expected known sizes.")
    try:
        dtype = tf.as_dtype(proto.dtype)
        item = 16 if dtype == tf.string else dtype.size
    except (TypeError, KeyError, ValueError):
        raise invalid(f"dtype: no such type: {proto.dtype}.") from None
    # Sizes of 0 count as 1: no array of what lies beside them could be made either.
    if len(dims) > 32 or math.prod(max(1, dim) for dim in dims) * max(1, item) > most_bytes:
        raise invalid(f"tensor_shape: {dims[:8]} is larger than {most_bytes} bytes.")
    if dtype == tf.string:  # make_ndarray would repeat the last text, however long it is
        texts = proto.string_val
        if len(texts) != math.prod(dims):
            raise invalid(
                f"tensor_shape: {dims[:8]} needs {math.prod(dims)} texts. Received: {len(texts)}."
            )
        values = np.empty(len(texts), object)
        values[:] = list(texts)
        return values.reshape(dims)
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise invalid(f"Invalid TensorProto: {reason}") from None


def tensor(value: np.ndarray):
    """An array as a TensorProto."""
    return tf.make_tensor_proto(value, shape=value.shape)


def shapes(signature) -> dict:
    """A signature's inputs for people: name -> type and shape, -1 being free."""
    if signature is None:
        return {}
    return {
        name: {
            "dtype": tf.as_dtype(info.dtype).name,
            "shape": [dim.size for dim in info.tensor_shape.dim],
        }
        for name, info in sorted(signature.inputs.items())
    }


def metadata(servable: Servable):
    """A GetModelMetadataResponse with the signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    for name, signature in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response.metadata["signature_def"].Pack(signatures)
    return response


def metadata_json(servable: Servable) -> bytes:
    """The same as TensorFlow Serving's JSON: fields keep their names, defaults are shown."""
    from google.protobuf import json_format
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = metadata(servable)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    if not response.metadata["signature_def"].Unpack(signatures):
        raise Failure("INTERNAL", "Failed to unpack 'Any' object to 'SignatureDefMap'.")

    def show(message):
        return json_format.MessageToJson(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    return (
        f'{{\n"model_spec":{show(response.model_spec)},\n"metadata": {{"signature_def":'
        f" {show(signatures)}}}\n}}\n".encode()
    )
