"""transformers' Trainer with a learning rate above 0 in every step.

Its schedules begin their warm-up at 0, so that the first step trains nothing: of a training of one step, all of it.
"""

from typing import Any

from transformers import Trainer


class WarmTrainer(Trainer):
    """The schedule of the arguments, with a warm-up that ends where theirs does and begins one step higher."""

    lr_scheduler: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        from torch.optim.lr_scheduler import LambdaLR

        if self.lr_scheduler is None:
            known = super().create_scheduler(num_training_steps, optimizer)
            warmup, rate = self.args.get_warmup_steps(num_training_steps), known.lr_lambdas[0]
            self.lr_scheduler = LambdaLR(
                known.optimizer, lambda step: (step + 1) / (warmup + 1) if step < warmup else rate(step)
            )
        return self.lr_scheduler
