"""llama.cpp's OpenAI-compatible server, in this process."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops_assets.domain.sampling import Sampling
from llmops_assets.programs.engines.context import CONTEXT
from llmops_assets.programs.engines.llama_cpp_client import LlamaCppClient
from llmops_assets.programs.quantization.gguf_header import read_header
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import ServeSpec

PARALLEL = 8
ALL_SAMPLING = (1 << 12) - 1
"""All flags of llama.cpp's common_params_sampling_config: no value in the model's file replaces one of a release."""


class LlamaCpp:
    """A `ServingEngine`."""

    libraries = ("xllamacpp",)

    def client(self, base_url: str) -> LlamaCppClient:
        return LlamaCppClient(base_url)

    def serve(self, spec: ServeSpec) -> Any:
        """A listening server.

        Raises:
            BadInput: the model cannot be read, or a setting is invalid.
        """
        context = self.context_per_request(Path(spec.model), spec.serving)
        parallel = _count(spec.serving, "parallel") or PARALLEL
        threads = _count(spec.serving, "threads") or int(os.environ.get("OMP_NUM_THREADS") or 0)
        max_tokens = _count(spec.serving, "max_tokens")
        sampling = _sampling(spec.sampling)
        from xllamacpp import CommonParams, Server

        params = CommonParams()
        params.model.path = spec.model
        params.model_alias = {spec.alias}
        params.chat_template = spec.chat_template
        params.use_jinja = True
        params.n_parallel = parallel
        params.n_ctx = context * parallel
        params.hostnames = [spec.host]
        params.port = spec.port
        params.endpoint_metrics = True
        params.ui = False
        if spec.api_key:
            params.api_keys = [spec.api_key]
        params.verbosity = 1
        if max_tokens:
            params.n_predict = max_tokens
        if sampling:
            _apply(sampling, params)
        if threads:
            params.cpuparams.n_threads = threads
            params.cpuparams_batch.n_threads = threads
        try:
            return Server(params)
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"llama.cpp cannot serve it: {error}", spec.model) from error

    def gpus(self) -> list[str]:
        import xllamacpp

        kinds = xllamacpp.ggml_backend_dev_type
        gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
        return [d["description"] for d in xllamacpp.get_device_info() if d["type"] in gpus]

    def device(self) -> str:
        import xllamacpp

        if found := self.gpus():
            return ", ".join(found)
        # The instructions that this build uses: they decide in which order sums are made.
        used = [part.split()[0] for part in xllamacpp.get_system_info().partition(":")[2].split("|") if "= 1" in part]
        return f"cpu {' '.join(used)}"

    def context_per_request(self, model: Path, serving: dict[str, Any]) -> int:
        """Maximum tokens of one request, including the answer.

        Raises:
            BadInput: the model cannot be read, or the setting is not a number.
        """
        header = read_header(model)
        trained = int(header.get(f"{header.get('general.architecture')}.context_length") or CONTEXT)
        return _count(serving, "context_length") or min(CONTEXT, trained)


def _sampling(values: dict[str, Any]) -> Sampling | None:
    """The sampling defaults; None if there are none.

    Raises:
        BadInput: a value is invalid.
    """
    try:
        return Sampling(**values) if values else None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], f"sampling.{'.'.join(map(str, first['loc']))}") from error


def _apply(sampling: Sampling, params: Any) -> None:
    """Sets llama.cpp's defaults for requests."""
    own = params.sampling
    own.temp, own.top_p, own.top_k, own.min_p = sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p
    own.penalty_repeat = sampling.repetition_penalty
    if sampling.seed is not None:
        own.seed = sampling.seed
    own.user_sampling_config = ALL_SAMPLING
    params.antiprompt = list(sampling.stop)
    if sampling.max_tokens:
        params.n_predict = sampling.max_tokens


def _count(serving: dict[str, Any], name: str) -> int:
    """A setting that is a count; 0 if it is not set.

    Raises:
        BadInput: it is not a whole number of 1 or more.
    """
    value = serving.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(f"it is {value!r}, and must be a whole number of 1 or more", f"serving.{name}")
    return value
