"""A port for a server of a test."""

import random

from llmops_assets.machine import ports


def free_port() -> int:
    """Free now, and below those that outgoing connections draw: nobody takes it before the server has it.

    Each search starts elsewhere, since several processes of tests search at once.
    """
    return ports.free_port("127.0.0.1", random.randrange(1024, ports.ephemeral_start()), ())
