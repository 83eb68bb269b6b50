"""The evaluation's answers end where the served model's do. Training and the engine are in `engines/test_parity.py`."""

from pathlib import Path

from llmops_assets.programs.models.loading import load_tokenizer, load_weights
from llmops_assets.programs.runtime.entry import ProgramRun


def test_an_answer_ends_at_every_stop_token_of_the_model(tiny: Path, tmp_path: Path) -> None:
    """Only the tokenizer's EOS ended an answer: Gemma, Llama 3 and Phi went on after the end of their turn."""
    import torch

    from llmops_assets.programs.evaluation.inference import answers

    model = load_weights(tiny, "the model", torch.float32)
    tokenizer = load_tokenizer(tiny)
    prompt, job = tokenizer.encode("def f(): pass"), ProgramRun(tmp_path)
    output = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)[0, len(prompt) :].tolist()
    stop = output[-1]
    for stops, kept in (((2,), output), ((2, stop), output[: output.index(stop)])):
        texts, cut, generated = answers(model, tokenizer, stops, [prompt], job, 6)
        assert texts == [tokenizer.decode(kept).strip()]
        assert cut == [stop not in stops]
        assert generated == len(kept) + (stop in stops)
