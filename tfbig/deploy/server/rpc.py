"""The gRPC protocol of TensorFlow Serving.

PredictionService and ModelService, with its official messages.
"""

from __future__ import annotations

import asyncio
import time

from google.protobuf.message import DecodeError

from tfbig.core.lazy import np
from tfbig.deploy.server import examples, messages
from tfbig.deploy.server.admission import Admission, Arrivals
from tfbig.deploy.server.catalogue import Catalogue
from tfbig.deploy.server.connections import CONNECTIONS, HEAD_SECONDS, IDLE_SECONDS
from tfbig.deploy.server.json_format import LARGE
from tfbig.deploy.server.servable import DEFAULT
from tfbig.deploy.server.status import CODES, Failure, invalid

# A request's arrays may be this much larger than the largest message: packed values repeat
GROWTH = 8
PATIENCE_S = 1.0  # that a message may take to come while others wait for its place
PACE = 8 << 20  # bytes per second; the largest message may take what it needs at this pace
# Calls open for each one that may be answered at once; the others' messages are still coming
WAITING = 4
MANAGING = ("HandleReloadConfigRequest",)  # methods that may take longer than a request


class Service:
    """What both gRPC services do.

    Each method takes a request message and returns a response message.
    """

    def __init__(self, catalogue: Catalogue, admission: Admission):
        self.catalogue = catalogue
        self.admission = admission
        self.limits = admission.limits

    def _find(self, spec):
        if not spec.name:
            raise invalid("Missing model name in request.")
        choice = spec.WhichOneof("version_choice")
        return self.catalogue.find(
            spec.name,
            spec.version.value if choice == "version" else None,
            spec.version_label if choice == "version_label" else None,
        )

    async def predict(self, request):
        from tensorflow_serving.apis import predict_pb2

        batcher = self._find(request.model_spec)
        servable = batcher.servable
        name = request.model_spec.signature_name or DEFAULT
        if name not in servable.signatures:
            raise Failure("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = servable.signatures[name]
        with batcher.held():  # another version may take its place while it is read
            inputs, pixels = await self._beside(request, self._inputs, request, servable, name)
            self._check_filter(request.output_filter, signature.outputs)
            # Few bytes may have become many, and become more.
            size = sum(value.nbytes for value in inputs.values())
            with self.admission.holding(size + servable.answer_bytes(name, inputs)):
                outputs = await batcher.ask(name, inputs, self.admission.running == 1, pixels)
        response = predict_pb2.PredictResponse()
        self._spec(response.model_spec, servable, name)
        for key in request.output_filter or outputs:
            response.outputs[key].CopyFrom(messages.tensor(outputs[key]))
        return response

    @staticmethod
    def _check_filter(wanted_names, outputs) -> None:
        """Raises Failure unless a request's output filter names different outputs."""
        for i, wanted in enumerate(wanted_names):
            if wanted in wanted_names[:i]:
                raise invalid(f"duplicate output tensor alias: {wanted}")
            if wanted not in outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {wanted} Outputs expected to be"
                    f" in the set {{{','.join(sorted(outputs))}}}."
                )

    def _inputs(self, request, servable, name: str) -> tuple[dict, np.ndarray | None]:
        """A predict request's inputs, and their pixels."""
        servable.check_names(name, request.inputs)  # before anything is made of them
        inputs = messages.arrays(request.inputs, GROWTH * self.limits.body)
        return inputs, servable.check(name, inputs)

    @staticmethod
    async def _beside(request, read, *arguments):
        """What `read` returns; a large request is read in another thread."""
        if request.ByteSize() <= LARGE:
            return read(*arguments)
        return await asyncio.get_running_loop().run_in_executor(None, read, *arguments)

    async def _examples(self, request, method: str):
        batcher = self._find(request.model_spec)
        servable = batcher.servable
        asked = request.model_spec.signature_name

        def read():
            name, inputs = examples.prepare(servable, asked, method, request.input)
            return name, inputs, servable.check(name, inputs)

        with batcher.held():
            name, inputs, pixels = await self._beside(request, read)
            texts = inputs[examples.INPUTS]
            size = examples.size(texts) + servable.answer_bytes(name, inputs)
            with self.admission.holding(size):
                return servable, name, await batcher.submit(name, inputs, pixels), len(texts)

    async def classify(self, request):
        from tensorflow_serving.apis import classification_pb2

        servable, name, outputs, rows = await self._examples(request, "classify")
        response = classification_pb2.ClassificationResponse()
        self._spec(response.model_spec, servable, name)
        _classified(response.result, outputs, rows)
        return response

    async def regress(self, request):
        from tensorflow_serving.apis import regression_pb2

        servable, name, outputs, rows = await self._examples(request, "regress")
        response = regression_pb2.RegressionResponse()
        self._spec(response.model_spec, servable, name)
        _regressed(response.result, outputs, rows)
        return response

    async def multi_inference(self, request):
        """Several classifications and regressions of the same examples.

        As TensorFlow Serving's multi_inference.cc.
        """
        from tensorflow_serving.apis import inference_pb2

        batcher = self._find(
            request.tasks[0].model_spec
            if request.tasks
            else inference_pb2.InferenceTask().model_spec
        )
        servable = batcher.servable
        asked = {}
        tensors = set()
        for task in request.tasks:
            name = task.model_spec.signature_name or DEFAULT
            if not task.model_spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if task.model_spec.name != servable.name:
                raise invalid(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                )
            if name in asked:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            if name not in servable.signatures:
                raise invalid(f"Requested signature not found in model graph: {name}")
            if task.method_name not in examples.METHODS:
                raise Failure(
                    "UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}"
                )
            asked[name] = examples.METHODS[task.method_name]
            examples.check(servable.signatures[name], name, asked[name])
            tensors.add(servable.signatures[name].inputs[examples.INPUTS].name)
        if len(tensors) > 1:
            raise invalid("Input tensor must be the same for all Signatures.")

        def read():
            inputs = {examples.INPUTS: examples.serialised(request.input)}
            return inputs, {name: servable.check(name, inputs) for name in asked}

        with batcher.held():
            inputs, pixels = await self._beside(request, read)
            size = examples.size(inputs[examples.INPUTS])
            size += sum(servable.answer_bytes(name, inputs) for name in asked)
            with self.admission.holding(size):
                results = await asyncio.gather(
                    *(batcher.submit(name, inputs, pixels[name]) for name in asked)
                )
        response = inference_pb2.MultiInferenceResponse()
        for (name, method), outputs in zip(asked.items(), results, strict=True):
            result = response.results.add()
            self._spec(result.model_spec, servable, name)
            if method == "classify":
                _classified(result.classification_result, outputs, len(inputs[examples.INPUTS]))
            else:
                _regressed(result.regression_result, outputs, len(inputs[examples.INPUTS]))
        return response

    async def get_model_metadata(self, request):
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        return messages.metadata(self._find(request.model_spec).servable)

    async def get_model_status(self, request):
        from tensorflow_serving.apis import get_model_status_pb2

        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        choice = spec.WhichOneof("version_choice")
        for number, state, error in self.catalogue.states(
            spec.name,
            spec.version.value if choice == "version" else None,
            spec.version_label if choice == "version_label" else None,
        ):
            listed = response.model_version_status.add(
                version=number, state=get_model_status_pb2.ModelVersionStatus.State.Value(state)
            )
            listed.status.error_code = 2 if error else 0  # UNKNOWN or OK
            listed.status.error_message = error
        return response

    async def reload_config(self, request):
        from tensorflow_serving.apis import model_management_pb2

        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid("Expected a model_config_list.")
        known = await self.catalogue.folders()
        unknown = [
            model.name
            for model in request.config.model_config_list.config
            if model.name not in known
        ]
        if unknown:
            raise invalid(
                f"Not among the served directory's models: {', '.join(unknown[:5])}. A path outside"
                " of it cannot be served."
            )
        await self.catalogue.refresh(request.config)
        return model_management_pb2.HandleReloadConfigResponse()

    @staticmethod
    def _spec(spec, servable, signature: str) -> None:
        spec.name = servable.name
        spec.signature_name = signature
        spec.version.value = servable.version


def _classified(result, outputs: dict, rows: int) -> None:
    """Fills a ClassificationResult."""
    for row in examples.classifications(outputs, rows):
        classification = result.classifications.add()
        for label, score in row:
            classification.classes.add(label=label, score=score)


def _regressed(result, outputs: dict, rows: int) -> None:
    """Fills a RegressionResult."""
    for value in examples.regressions(outputs, rows):
        result.regressions.add(value=value)


class Handlers:
    """Makes gRPC handlers, from bytes to a response; one for all methods of a server.

    The message is parsed here, so that a broken one is the client's error. To gRPC a call is one of
    a stream of requests, of which the first is read: a unary call looks the same from outside, but
    one whose message does not come would hold its place here without end.
    """

    def __init__(self, monitor, admission: Admission, say):
        import grpc

        limits = admission.limits
        places = max(1, limits.bodies // limits.body)
        patience_s = max(PATIENCE_S, limits.body / PACE)
        self.arrivals = Arrivals(places, limits.seconds, patience_s)
        self.codes = {code.value[0]: code for code in grpc.StatusCode}
        self.monitor = monitor
        self.admission = admission
        self.limits = limits
        self.say = say

    def handler(self, name: str, call, kind):
        """The handler of a method that takes a message of this kind."""
        import grpc

        async def answer(messages, context):
            return await self._answer(name, call, kind, messages, context)

        return grpc.stream_unary_rpc_method_handler(
            answer, response_serializer=lambda message: message.SerializeToString()
        )

    async def _first(self, messages) -> bytes:
        async with self.arrivals.place():
            async for body in messages:
                return body
        raise invalid("Expected a request message.")

    async def _answer(self, name: str, call, kind, messages, context):
        started = time.perf_counter()
        code = "OK"
        request = None
        try:
            if self.limits.token is not None:
                token = dict(context.invocation_metadata()).get("authorization", "")
                self.admission.check_token(str(token).encode())
            body = await self._first(messages)
            with self.admission.holding(len(body)):
                request = kind.FromString(body)
                body = b""  # what it became is held alone
                self.admission.enter()
                try:
                    seconds = None if name in MANAGING else self.limits.seconds
                    async with asyncio.timeout(seconds):
                        return await call(request)
                finally:
                    self.admission.leave()
        except Failure as failure:
            code = failure.code
            message = failure.message
        except DecodeError as error:
            code = "INVALID_ARGUMENT"
            message = str(error)
        except asyncio.CancelledError:  # the client went away, or its deadline passed
            code = "CANCELLED"
            raise
        except TimeoutError:
            code = "DEADLINE_EXCEEDED"
            message = f"No answer within {self.limits.seconds:g} s"
        except Exception as error:
            code = "INTERNAL"
            message = type(error).__name__
            self.say("error", {"method": name, "error": f"{message}: {error}"[:500]})
        finally:
            model = getattr(getattr(request, "model_spec", None), "name", "")
            self.monitor.count(model, "GRPC", name, code, time.perf_counter() - started)
        return await context.abort(self.codes[CODES[code][0]], message)


def _methods(service: Service) -> dict[str, dict[str, tuple]]:
    """The methods of both gRPC services: name -> (call, kind of its message)."""
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    return {
        "PredictionService": {
            "Predict": (service.predict, predict_pb2.PredictRequest),
            "Classify": (service.classify, classification_pb2.ClassificationRequest),
            "Regress": (service.regress, regression_pb2.RegressionRequest),
            "MultiInference": (service.multi_inference, inference_pb2.MultiInferenceRequest),
            "GetModelMetadata": (
                service.get_model_metadata,
                get_model_metadata_pb2.GetModelMetadataRequest,
            ),
        },
        "ModelService": {
            "GetModelStatus": (
                service.get_model_status,
                get_model_status_pb2.GetModelStatusRequest,
            ),
            "HandleReloadConfigRequest": (
                service.reload_config,
                model_management_pb2.ReloadConfigRequest,
            ),
        },
    }


def build(catalogue: Catalogue, monitor, admission: Admission, say):
    """A grpc.aio server with both services, not yet bound to a port."""
    import grpc

    limits = admission.limits
    server = grpc.aio.server(
        maximum_concurrent_rpcs=WAITING * limits.at_once,
        options=[
            ("grpc.max_concurrent_streams", limits.at_once),
            ("grpc.max_receive_message_length", limits.body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.max_allowed_incoming_connections", CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", int(HEAD_SECONDS * 1e3)),
            ("grpc.max_connection_idle_ms", int(IDLE_SECONDS * 1e3)),
            ("grpc.http2.bdp_probe", 0),  # it would let messages come that nobody reads yet
        ],
    )
    handlers = Handlers(monitor, admission, say)
    for service, methods in _methods(Service(catalogue, admission)).items():
        of_service = {name: handlers.handler(name, *method) for name, method in methods.items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", of_service),)
        )
    return server
