"""When to try again what another system did not take: a message, a check on the code host, a proposal. Pure."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
LEASE_S = 300.0
"""How long an attempt belongs to the process that makes it. One that dies after sending leaves it to be repeated."""
STUCK_AFTER = 5
"""Failed attempts after which a message no longer holds up those behind it: the message may be the fault."""


def pause_s(tries: int) -> float:
    """Seconds until the next attempt: 5, 10, 20, … 600."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 20)))


def is_due(due: float, now: float) -> bool:
    """Whether an attempt is due. A time further ahead than any pause was written by a clock that was set back."""
    return now >= due or due - now > LONGEST_PAUSE_S + LEASE_S
