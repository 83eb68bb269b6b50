"""Free ports for the servers that tests start."""

import random

from llmops_assets.machine import ports


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it before the server binds it.

    Each search starts at a random port, since several test processes search at once.
    """
    return ports.free_port("127.0.0.1", random.randrange(1024, ports.ephemeral_start()), ())
