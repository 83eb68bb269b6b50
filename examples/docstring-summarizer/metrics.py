"""The project's own metrics: functions (prediction, reference) -> float, named in llmops.yaml.

Common metrics (perplexity, BLEU, ROUGE, profanity) are built into the platform and do not belong here.
"""


def starts_upper(prediction: str, reference: str) -> float:
    """1.0 if the summary begins with a capital letter, as PEP 257 requires; a leading quote or backtick is allowed."""
    return float(prediction.lstrip(" \t\n`'\"")[:1].isupper())
