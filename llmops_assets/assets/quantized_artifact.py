"""quantized_artifact: merges and quantizes the checkpoint into the file that the engine serves."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import verdict_on
from llmops_assets.domain.records import Checkpoint, QuantizedArtifact
from llmops_assets.programs.runtime.specs import QuantizeResult, QuantizeSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.base_model import base_of
from llmops_assets.stage.execution import StageExecution


def make(run: StageExecution) -> QuantizedArtifact:
    checkpoint = run.record(Checkpoint, "fine_tuned_checkpoint")
    quantization = run.at.config.quantization
    spec = QuantizeSpec(
        method=checkpoint.method,
        base=str(base_of(run, checkpoint)),
        checkpoint=str(run.fetch(checkpoint)),
        backend=quantization.backend,
        scheme=quantization.scheme,
        converter=run.settings.compute.llama_cpp,
    )
    done = run.program("quantize", spec)
    result = done.read(QuantizeResult)
    artifact = run.store.put(done.artifact)
    return QuantizedArtifact(
        **run.header,
        backend=quantization.backend,
        scheme=quantization.scheme,
        uri=artifact.uri,
        digest=artifact.digest,
        file=result.file,
        size_bytes=result.size_bytes,
        checkpoint_digest=checkpoint.digest,
        chat_template=checkpoint.chat_template,
        context_length=checkpoint.context_length,
    )


def describe(run: StageExecution, record: QuantizedArtifact) -> Mapping[str, Any]:
    return {
        "backend": record.backend,
        "scheme": record.scheme,
        "size_mb": round(record.size_bytes / 1e6, 1),
        "digest": record.digest,
        "uri": dg.MetadataValue.path(f"{record.uri}/{record.file}"),
    }


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(project, settings, "quantized_artifact", make, describe, kinds={"llamacpp"}, require=verdict_on)
