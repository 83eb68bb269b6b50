"""An LLM as a judge: its endpoint, and its agreement with people. Its prompt and verdicts are `domain.judging`."""
